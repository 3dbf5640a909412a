"""A tagger as it is trained: some stages frozen, pictures normalised and varied on the way in."""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from tagger import release as releases
from tagger.architecture import Architecture
from tagger.backbone import load_lite0_pretrained
from tagger.model import CamieTagger
from tagger.release import ReleaseFolder
from tagger.vocabulary import Vocabulary
from training.config import Recipe, RecipeError
from training.deepspeed_config import Groups

PRIOR_LIMITS = (1e-4, 0.5)
NEW_TAG_QUANTILE = 0.1  # of a release's biases: a tag that is new to it starts as an unlikely one
# parameters with one row a tag: the last layers of both classifiers and the tag embedding
TAG_ROWS = re.compile(r"(initial_classifier|refined_classifier)\.7\.(weight|bias)|tag_embedding\.weight")


class FloatNorm(nn.BatchNorm2d):
    """A batch norm that computes in float32 whatever its weights are held in. DeepSpeed halves weights and leaves the
    running statistics as they are, and torch takes no batch norm whose weights and statistics differ."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dtype == self.running_mean.dtype:
            return super().forward(inputs)
        if self.training:
            self.num_batches_tracked.add_(1)
        weight, bias = self.weight.float(), self.bias.float()
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(inputs, mean, variance, weight, bias, self.training, self.momentum, self.eps)


class TrainedTagger(nn.Module):
    """Wraps a tagger. Frozen stages run without gradients and keep their batch statistics."""

    def __init__(self, tagger: CamieTagger, recipe: Recipe) -> None:
        super().__init__()
        self.tagger = tagger
        for module in tagger.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = FloatNorm  # the same state under the same names
        stages = tagger.backbone.stages()
        frozen = recipe.model.frozen_stages
        if frozen > len(stages):
            raise RecipeError(
                f"model.frozen_stages is {frozen}, but {tagger.architecture.backbone} has {len(stages)} stages."
            )
        if frozen in (-1, len(stages)):  # then only the pooled feature is of use, and a twentieth of its map to keep
            frozen, stages = len(stages) + 1, [*stages, tagger.spatial_pool]
        self.frozen, self.late = nn.Sequential(*stages[:frozen]), nn.Sequential(*stages[frozen:])
        self.frozen.requires_grad_(False)
        self.freeze_norm = recipe.train.freeze_norm
        for module in self.late.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = recipe.train.norm_momentum
        self.checkpointing = recipe.engine.activation_checkpointing

    @property
    def stage_names(self) -> tuple[str, ...]:
        return ("initial", "refined") if self.tagger.architecture.stages == "full" else ("initial",)

    def train(self, mode: bool = True) -> "TrainedTagger":
        super().train(mode)
        self.frozen.eval()
        if self.freeze_norm:
            for module in self.late.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def norm_statistics(self) -> Iterator[Tensor]:
        """Running means and variances of the batch norms that training changes."""
        if not self.freeze_norm:
            yield from (buffer for buffer in self.late.buffers() if buffer.is_floating_point())

    @torch.no_grad()
    def early(self, images: Tensor) -> Tensor:
        """What the frozen stages make of normalised pictures [B, 3, S, S]."""
        return self.frozen(self.as_frozen(images))

    def as_frozen(self, images: Tensor) -> Tensor:
        """In the frozen weights' precision: DeepSpeed turns those of a half-precision run into halves, too."""
        weight = next(self.frozen.parameters(), images)
        return images.to(weight.dtype)

    def forward(self, inputs: Tensor, early: bool = False) -> tuple[Tensor, Tensor]:
        """Logits of both stages from normalised pictures, or with `early` from what `early` returned."""
        x = inputs if early else self.early(inputs)
        for stage in self.late:
            if self.checkpointing and self.training:
                x = checkpoint(stage, x, use_reentrant=False)
            else:
                x = stage(x)
        return self.tagger.head(self.tagger.pool(x))

    def parameter_groups(self, recipe: Recipe) -> Groups:
        """Backbone and head at their own rates; norms, biases, temperature and tag embedding without weight decay."""
        rate, decay = recipe.train.learning_rate, recipe.train.weight_decay
        groups = {
            (part, decays): {
                "params": [],
                "lr": rate * (recipe.train.backbone_scale if part == "backbone" else 1.0),
                "weight_decay": decay if decays else 0.0,
            }
            for part in ("backbone", "head")
            for decays in (True, False)
        }
        for name, parameter in self.tagger.named_parameters():
            if parameter.requires_grad:
                part = "backbone" if name.startswith("backbone.") else "head"
                decays = parameter.ndim > 1 and not name.startswith("tag_embedding")
                groups[part, decays]["params"].append(parameter)
        return [group for group in groups.values() if group["params"]]


def architecture_of(recipe: Recipe, release: ReleaseFolder | None, tags: int) -> Architecture:
    """The recipe's; or a start release's, whose backbone stays when the recipe asks for a fresh head."""
    if release is None:
        return recipe.model.architecture(tags)
    if recipe.model.fresh_head:
        return replace(recipe.model.architecture(tags), backbone=release.architecture.backbone)
    return replace(release.architecture, tag_count=tags)


def new_tagger(recipe: Recipe, vocabulary: Vocabulary, rows: int, release: ReleaseFolder | None = None) -> CamieTagger:
    """A tagger to train from nothing, from ImageNet, or from a release's backbone; each tag starts at how often it
    occurs in `rows` pictures."""
    torch.manual_seed(recipe.train.seed)
    tagger = CamieTagger(architecture_of(recipe, release, len(vocabulary)))
    if release:
        stored = releases.load_weights(release).items()
        tagger.load_state_dict({k: v for k, v in stored if k.startswith("backbone.")}, strict=False)
    elif recipe.model.pretrained:
        load_lite0_pretrained(tagger)
    counts = torch.tensor(vocabulary.counts, dtype=torch.float32)
    prior = torch.logit((counts / max(rows, 1)).clamp(*PRIOR_LIMITS)) * tagger.temperature.item()
    for name in ("initial_classifier", "refined_classifier"):
        if hasattr(tagger, name):
            tagger.get_submodule(name)[7].bias.data.copy_(prior)
    return tagger


@dataclass(frozen=True)
class Carried:
    """What became of a start release's tags."""

    kept: list[str]
    left_out: list[str]
    new: list[str]

    @property
    def sentence(self) -> str:
        return (
            f"of the release's {len(self.kept) + len(self.left_out)} tags {len(self.kept)} are carried over and "
            f"{len(self.left_out)} left out; {len(self.new)} tags are new"
        )

    def to_json(self) -> dict[str, Any]:
        return {"kept": len(self.kept), "left_out": self.left_out, "new": self.new}


def grown_tagger(release: ReleaseFolder, vocabulary: Vocabulary, seed: int) -> tuple[CamieTagger, Carried]:
    """A release's tagger for another vocabulary: kept tags take their rows by name.

    A new tag's score is a low constant at first, so that it takes no kept tag's place in the second stage's context
    and kept tags are scored as before; its embedding is drawn like the others.
    """
    torch.manual_seed(seed)
    tagger = CamieTagger(replace(release.architecture, tag_count=len(vocabulary)))
    stored = {k: v.float() if v.is_floating_point() else v for k, v in releases.load_weights(release).items()}
    kept = [(vocabulary.index(n), i) for i, n in enumerate(release.vocabulary.names) if n in vocabulary]
    ours, theirs = (torch.tensor([k[side] for k in kept], dtype=torch.long) for side in (0, 1))
    state = tagger.state_dict()
    for key, tensor in state.items():
        if not TAG_ROWS.fullmatch(key):
            tensor.copy_(stored[key])
            continue
        if key.endswith("bias"):
            tensor.fill_(float(stored[key].quantile(NEW_TAG_QUANTILE)))
        elif key.startswith("tag_embedding"):
            tensor.normal_(0, float(stored[key].std()))
        else:
            tensor.zero_()
        tensor[ours] = stored[key][theirs]
    tagger.load_state_dict(state)
    names = release.vocabulary.names
    return tagger, Carried(
        [name for name in names if name in vocabulary],
        [name for name in names if name not in vocabulary],
        [name for name in vocabulary.names if name not in release.vocabulary],
    )


def folded(frozen: nn.Module) -> nn.Module:
    """A copy for running only, its batch norms folded into the convolutions before them: a third less time."""
    quick = copy.deepcopy(frozen).eval()
    for module in quick.modules():
        if isinstance(module, nn.Sequential) and len(module) > 1:
            conv, norm = module[0], module[1]
            # exact type: a convolution of its own kind, as Lite0's strided ones, may not use its bias
            if type(conv) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d):
                module[0], module[1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return quick.to(memory_format=torch.channels_last)


class Normalise:
    """uint8 [B, S, S, 3] to what the network takes, [B, 3, S, S] channels last, by a release's mean and std."""

    def __init__(self, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, device: torch.device) -> None:
        self.device = device
        self.mean = torch.tensor(mean or (0.0, 0.0, 0.0), device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std or (1.0, 1.0, 1.0), device=device).view(1, 3, 1, 1)

    def unit(self, pixels: Tensor) -> Tensor:
        """0 to 1, channels last: the permuted view has that layout already."""
        return pixels.to(self.device).permute(0, 3, 1, 2).float().div_(255)

    def __call__(self, unit: Tensor) -> Tensor:
        return unit.sub_(self.mean).div_(self.std)


class Average:
    """A moving average of the weights that training changes (Polyak averaging); quick at first, then by `decay`."""

    def __init__(self, tagger: nn.Module, decay: float) -> None:
        self.tagger, self.decay = tagger, decay
        self.values = {key: tensor.detach().clone().float() for key, tensor in self.changing().items()}
        self.aside: dict[str, Tensor] | None = None  # the network's weights, while the average is in their place

    def changing(self) -> dict[str, Tensor]:
        trained = {name for name, p in self.tagger.named_parameters() if p.requires_grad}
        fixed = {name for name, p in self.tagger.named_parameters() if not p.requires_grad}
        state = self.tagger.state_dict()
        return {k: v for k, v in state.items() if k in trained or (v.is_floating_point() and k not in fixed)}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        current = [tensor.float() for tensor in self.changing().values()]
        torch._foreach_lerp_(list(self.values.values()), current, 1 - decay)

    def statistics(self) -> list[Tensor]:
        """The averages of what is no parameter: running means and variances."""
        parameters = {name for name, _ in self.tagger.named_parameters()}
        return [tensor for key, tensor in self.values.items() if key not in parameters]

    @torch.no_grad()
    def swap(self) -> None:
        """Puts the average in the network's place; a second call puts the weights back.

        The average itself stays in float32: through the weights' own precision it would be rounded each time.
        """
        changing = self.changing()
        aside, self.aside = self.aside, None
        if aside is None:
            self.aside = {key: tensor.clone() for key, tensor in changing.items()}
        for key, tensor in changing.items():
            tensor.copy_((aside or self.values)[key])

    def load(self, values: Mapping[str, Tensor]) -> None:
        """From a checkpoint, which is read onto the CPU."""
        self.values = {key: tensor.to(self.values[key].device, torch.float32) for key, tensor in values.items()}


def stored_state(tagger: nn.Module) -> dict[str, Tensor]:
    """The tagger's state on the CPU in float32, as safetensors wants it: contiguous and not shared."""
    return {
        key: (tensor.detach().float() if tensor.is_floating_point() else tensor.detach()).cpu().contiguous().clone()
        for key, tensor in tagger.state_dict().items()
    }
