"""How much memory a recipe needs on a card, before anything runs there.

    python -m training.train camie-v1 --plan [--tags 70527] [--card 12GB]

Parameters, gradients and the optimiser's states follow from their number and DeepSpeed's stage. Activations are what
autograd keeps for the backward pass, asked of torch itself: the network runs once on the meta device, which knows
shapes and no numbers. Some parts are estimates and marked so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tagger.model import CamieTagger
from training.config import Recipe, RecipeError
from training.losses import UnifiedFocalLoss
from training.network import TrainedTagger

CONTEXT = 600 * 2**20  # CUDA's own memory and its libraries', as usual
WORKSPACE = 256 * 2**20  # of convolutions
FRAGMENTS = 0.05  # of the allocator
UNITS = {"GB": 2**30, "GIB": 2**30, "MB": 2**20, "MIB": 2**20}


def card_bytes(text: str) -> int:
    """`12GB` as card makers count it, in powers of two."""
    number, unit = text.strip().upper().rstrip("GMIB"), text.strip().upper().lstrip("0123456789. ")
    try:
        return int(float(number) * UNITS[unit])
    except (KeyError, ValueError) as error:
        raise RecipeError(f"--card is {text!r}; write its memory as 12GB.") from error


class Kept:
    """Bytes that autograd keeps, each storage once; parameters are not activations."""

    def __init__(self, network: nn.Module) -> None:
        own = [*network.parameters(), *network.buffers()]
        self.known = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in own}
        self.largest = 0

    def by(self, run: Callable[[], Tensor]) -> tuple[Tensor, int]:
        """What a part of the network returns, and the bytes that it adds to what is kept."""
        added = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal added
            storage = tensor.untyped_storage()
            if storage._cdata not in self.known:
                self.known[storage._cdata] = storage  # held, so that no other takes its place
                added += storage.nbytes()
                self.largest = max(self.largest, storage.nbytes())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            return run(), added


@dataclass
class Plan:
    parameters: int
    trained: int
    precision: str
    parts: dict[str, int] = field(default_factory=dict)  # bytes on the card, by name
    stages: list[tuple[str, int, int]] = field(default_factory=list)  # name, bytes kept, bytes recomputed
    activations: int = 0
    step_only: int = 0  # bytes that the optimiser's step needs, when no activations are there
    offloaded: int = 0  # bytes in the CPU's memory instead

    @property
    def peak(self) -> int:
        moving = max(self.activations + self.parts["working memory (estimate)"], self.step_only)
        fixed = sum(size for name, size in self.parts.items() if name != "working memory (estimate)")
        return int((fixed + moving) * (1 + FRAGMENTS))


def half(precision: str) -> bool:
    return precision in ("fp16", "bf16")


def activations(network: TrainedTagger, inputs: Tensor, tags: int, loss: UnifiedFocalLoss) -> tuple[list, int, int]:
    """([(stage, kept, recomputed)], bytes at the peak, bytes of the largest tensor), by running the network once."""
    kept = Kept(network)
    found: list[tuple[str, int, int]] = []
    network.train()
    with torch.no_grad():
        x = network.frozen(inputs)
    if not any(p.requires_grad for p in network.late.parameters()):
        x = x.detach()
    for number, stage in enumerate(network.late):
        name = f"backbone stage {number + len(network.frozen)}"
        inside = x.untyped_storage().nbytes()
        x, added = kept.by(lambda stage=stage, x=x: stage(x))
        found.append((name, inside, added) if network.checkpointing else (name, added, 0))

    def rest() -> Tensor:
        logits = network.tagger.head(network.tagger.pool(x))
        targets = torch.zeros(len(inputs), tags, device=inputs.device)
        return loss(*logits, targets, torch.ones_like(targets))[0]

    found.append(("head and loss", kept.by(rest)[1], 0))
    peak = sum(stays for _, stays, _ in found) + max(again for _, _, again in found)
    return found, peak, kept.largest


def plan(recipe: Recipe, tags: int, processes: int = 1) -> Plan:
    precision = "bf16" if recipe.engine.precision == "auto" else recipe.engine.precision
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    with torch.device("meta"):
        network = TrainedTagger(CamieTagger(recipe.model.architecture(tags)), recipe).to(dtype)
        loss = UnifiedFocalLoss.from_recipe(recipe.loss)
        inputs = torch.zeros(recipe.train.batch_size, 3, recipe.data.size, recipe.data.size, dtype=dtype)
    total = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    found = Plan(total, trained, precision)
    found.stages, found.activations, largest = activations(network, inputs, tags, loss)
    states(found, recipe, processes)
    groups = [sum(p.numel() for p in group["params"]) for group in network.parameter_groups(recipe)]
    found.step_only = 4 * max(groups) if half(precision) and not recipe.engine.offload_optimizer else 0
    found.parts["working memory (estimate)"] = 3 * largest + WORKSPACE
    found.parts["CUDA and its libraries (estimate)"] = CONTEXT
    return found


def states(found: Plan, recipe: Recipe, processes: int) -> None:
    """Weights, gradients and optimiser states on one card of `processes`, by ZeRO's stage."""
    engine, size = recipe.engine, 2 if half(found.precision) else 4
    share = {stage: processes if engine.zero_stage >= stage else 1 for stage in (1, 2, 3)}
    found.parts["weights"] = size * found.parameters // share[3]
    found.parts["gradients"] = size * found.trained // share[2]
    optimizer = 8 * found.trained // share[1]
    if half(found.precision):
        optimizer += 4 * found.trained // share[1]  # weights in float32
    if engine.offload_optimizer:
        found.offloaded, optimizer = optimizer, 0
    what = "two moments, weights in float32" if half(found.precision) else "two moments"
    found.parts[f"optimiser ({what})"] = optimizer
    if engine.zero_stage:
        found.parts["ZeRO's bucket"] = size * engine.bucket_size


def gib(size: float) -> str:
    return f"{size / 2**30:6.2f} GiB"


def text(found: Plan, recipe: Recipe, tags: int, card: str | None) -> str:
    lines = [
        f"{recipe.name}: {found.parameters:,} parameters ({found.trained:,} trained), {tags:,} tags, "
        f"{recipe.train.batch_size} pictures of {recipe.data.size} x {recipe.data.size}, {found.precision}, "
        f"ZeRO stage {recipe.engine.zero_stage}",
        *(f"{gib(size)}  {name}" for name, size in found.parts.items()),
        f"{gib(found.activations)}  activations at their peak, of:",
    ]
    for name, stays, again in found.stages:
        lines.append(
            f"            {gib(stays)}  {name}" + (f", and {gib(again).strip()} while recomputed" if again else "")
        )
    if found.step_only:
        lines.append(
            f"{gib(found.step_only)}  gradients in float32 at the optimiser's step, when no activations are there"
        )
    if found.offloaded:
        lines.append(f"{gib(found.offloaded)}  of optimiser states lie in the CPU's memory")
    lines.append(f"{gib(found.peak)}  expected peak, with {FRAGMENTS:.0%} for the allocator's fragments (estimate)")
    if card:
        room = card_bytes(card)
        verdict = f"fits a card of {card}, {gib(room - found.peak).strip()} to spare"
        if found.peak > room:
            verdict = (
                f"does not fit a card of {card}: {gib(found.peak - room).strip()} too much. Lower train.batch_size and "
                "raise train.accumulate, or set engine.activation_checkpointing, zero_stage 2 or offload_optimizer"
            )
        lines.append(f"It {verdict}.")
    return "\n".join(lines)
