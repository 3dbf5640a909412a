"""What a run is told: a recipe in TOML that states only what differs from the defaults below.

`read` checks every key and value when it is read, and each error is a sentence with the remedy.
`--set train.epochs=3` changes one value. The recipe as resolved is written to the run folder's `config.toml`.
"""

import dataclasses
import json
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tagger.architecture import Architecture, ArchitectureError
from tagger.preprocess import Preprocess

RECIPES = Path(__file__).parent / "recipes"
Section = Any


class RecipeError(ValueError):
    """A sentence saying which value of a recipe is wrong and what it may be."""


def demand(holds: bool, sentence: str) -> None:
    if not holds:
        raise RecipeError(sentence)


def demand_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    demand(value in choices, f"{name} is {value!r}; it must be one of {', '.join(choices)}.")


def demand_share(name: str, value: float, top: float = 1.0) -> None:
    demand(0 <= value <= top, f"{name} is {value}; it must be from 0 to {top:g}.")


@dataclass(frozen=True)
class Data:
    """Which tags are learned, and how a picture becomes numbers (a start release's own values beat these)."""

    size: int = 128
    geometry: str = "letterbox"
    filter: str = "lanczos"
    pad_color: tuple[int, ...] = (255, 255, 255)
    alpha: str = "composite"
    mean: tuple[float, ...] | None = (127 / 255, 127 / 255, 127 / 255)  # Lite0's weights want (x - 127) / 128
    std: tuple[float, ...] | None = (128 / 255, 128 / 255, 128 / 255)
    large_jpeg: str = "draft"  # as tagger/preprocess.py has it; whole decodes them in full, which takes longer
    minimum_count: int = 20  # pictures of the training split a tag needs
    minimum_counts: dict[str, int] = field(default_factory=dict)  # per category, beats minimum_count
    leave_out: tuple[str, ...] = ()  # categories that are not learned
    vocabulary: str = "grow"  # from a release: its tags and new ones, or only those of the dataset
    validation_share: float = 0.1  # taken from train when the dataset has no validation split
    cache: str = "auto"  # decoded: each picture once, into a file; none: anew each time; auto: decoded where it fits
    cache_gigabytes: float = 20  # what auto may take; never more than half of what the disk has left
    workers: int = 0  # threads that decode; 0: a core each
    ahead: int = 0  # micro-batches decoded ahead; 0: enough for all threads
    unreadable_share: float = 0.01  # pictures of a split that may be unreadable before the run stops
    rare_threshold: float = (
        0.0  # instance-aware repeat factor sampling, t in training/feeding/sampling.py; about 0.001, 0: none
    )

    def __post_init__(self) -> None:
        demand(self.size >= 32 and self.size % 16 == 0, f"data.size is {self.size}; it must be a multiple of 16.")
        demand(self.minimum_count >= 1, f"data.minimum_count is {self.minimum_count}; it must be at least 1.")
        demand_share("data.validation_share", self.validation_share, 0.5)
        demand_share("data.unreadable_share", self.unreadable_share)
        demand_share("data.rare_threshold", self.rare_threshold)
        demand_choice("data.vocabulary", self.vocabulary, ("grow", "dataset"))
        demand_choice("data.cache", self.cache, ("auto", "decoded", "none"))
        for name in ("workers", "ahead", "cache_gigabytes"):
            demand(getattr(self, name) >= 0, f"data.{name} must be at least 0.")

    def preprocess(self) -> Preprocess:
        names = ("size", "geometry", "filter", "pad_color", "alpha", "mean", "std", "large_jpeg")
        values = {name: getattr(self, name) for name in names}
        return Preprocess.from_config({k: list(v) if isinstance(v, tuple) else v for k, v in values.items()})


@dataclass(frozen=True)
class Model:
    """The architecture without its tag count, which the vocabulary gives."""

    backbone: str = "efficientnet_lite0"
    pretrained: bool = True  # ImageNet weights from an installed package; only Lite0 has them
    embedding_size: int = 256
    initial_hidden: int = 512
    cross_hidden: int = 512
    refined_hidden: int = 512
    tag_context_size: int = 64
    heads: int = 8
    attention: str = "token"
    stages: str = "full"
    dropout: float = 0.1
    frozen_stages: int = 0  # the backbone's first stages keep their weights and batch statistics; -1: all of them
    fresh_head: bool = False  # from a start release take the backbone alone; the head is this recipe's own

    def __post_init__(self) -> None:
        demand(
            not self.pretrained or self.backbone == "efficientnet_lite0",
            f"model.pretrained is true, and there are no such weights for {self.backbone}; set it to false.",
        )
        demand(self.frozen_stages >= -1, "model.frozen_stages must be at least 0, or -1 for all.")
        try:
            self.architecture(1)
        except ArchitectureError as error:
            raise RecipeError(f"In [model]: {error}") from error

    def architecture(self, tag_count: int) -> Architecture:
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Architecture(tag_count=tag_count, **{k: v for k, v in own.items() if k not in OWN_MODEL_KEYS})


OWN_MODEL_KEYS = ("pretrained", "frozen_stages", "fresh_head")


@dataclass(frozen=True)
class Loss:
    """`focal` is the Camie recipe; `bce` and `asymmetric` (arXiv:2009.14119) are for comparison."""

    kind: str = "focal"
    gamma: float = 2.0  # of the easy cells; for asymmetric, of the negatives
    gamma_positive: float = 0.0  # asymmetric only
    alpha: float = 0.25  # focal only: weight of a positive, a negative has the rest
    clip: float = 0.05  # asymmetric only: negatives below it cost nothing
    lambda_initial: float = 0.4
    soft_weight: float = 0.0  # weight of unknown cells, whose target is what the judged release predicted
    # above 0: their target is what the start release says itself, moved by what people said (see feeding)
    soft_spread: float = 0.0

    def __post_init__(self) -> None:
        demand_choice("loss.kind", self.kind, ("focal", "bce", "asymmetric"))
        for name in ("alpha", "clip", "lambda_initial", "soft_weight"):
            demand_share(f"loss.{name}", getattr(self, name))
        for name in ("gamma", "gamma_positive", "soft_spread"):
            demand(getattr(self, name) >= 0, f"loss.{name} must be at least 0.")


@dataclass(frozen=True)
class Augment:
    """Random changes of training pictures. Hue stays: colours are tags."""

    flip: float = 0.0
    # a picture with one of these words in a tag has a handedness or holds text, and is never flipped
    no_flip_words: tuple[str, ...] = ("left", "right", "text", "letter", "number", "arrow", "flag", "clock", "logo")
    scale: float = 0.0  # 0.15: enlarged or shrunk by up to 15 %
    shift: float = 0.0  # 0.06: moved by up to 6 % of the side
    rotate: float = 0.0  # degrees
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "scale", "shift", "brightness", "contrast", "saturation"):
            demand_share(f"augment.{name}", getattr(self, name))
        demand_share("augment.rotate", self.rotate, 180)

    def anything(self) -> bool:
        return any((self.flip, self.geometric(), self.brightness, self.contrast, self.saturation))

    def geometric(self) -> bool:
        return any((self.scale, self.shift, self.rotate))


@dataclass(frozen=True)
class Train:
    epochs: int = 10
    pictures: int = 0  # the run ends after so many, counted as often as they come; 0: after its epochs
    batch_size: int = 64  # pictures of one forward pass
    accumulate: int = 1  # such passes in an optimiser step, over all processes together
    learning_rate: float = 1e-3
    backbone_scale: float = 0.3  # the backbone's learning rate as a share of the head's
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup: float = 0.05  # share of the run, or steps when above 1
    warmup_epochs: float = 0.25  # of the schedule "warmup", which is DeepSpeed's WarmupLR
    warmup_kind: str = "log"  # its curve: log, which is DeepSpeed's own choice, or linear
    floor: float = 0.01  # the rate a cosine ends at, and a warm-up starts from, as a share of learning_rate
    ema: float = 0.0  # decay of a moving average of the weights, which is then what is judged and published
    norm_momentum: float = 0.05  # how fast the batch norms' statistics follow; short runs want 0.1
    freeze_norm: bool = False  # batch norms keep their statistics, for small datasets
    cache_activations: int = 0  # versions of each picture kept behind the frozen stages; the first is unchanged
    seed: int = 1
    threads: int = 0  # 0: what torch takes by itself
    checkpoint_seconds: float = 120  # 0: after every step
    skip_limit: int = 10  # micro-batches whose loss is no number that are skipped before the run stops
    evaluate_every: int = 1  # epochs

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "evaluate_every"):
            demand(getattr(self, name) >= 1, f"train.{name} is {getattr(self, name)}; it must be at least 1.")
        demand_choice("train.schedule", self.schedule, ("cosine", "flat", "warmup"))
        demand_choice("train.warmup_kind", self.warmup_kind, ("log", "linear"))
        demand(self.learning_rate > 0, "train.learning_rate must be above 0.")
        for name in (
            "pictures",
            "warmup",
            "warmup_epochs",
            "cache_activations",
            "checkpoint_seconds",
            "skip_limit",
            "threads",
        ):
            demand(getattr(self, name) >= 0, f"train.{name} must be at least 0.")
        demand(0 < self.floor <= 1, "train.floor must be above 0 and at most 1: a step at rate 0 teaches nothing.")
        demand(0 < self.norm_momentum <= 1, "train.norm_momentum must be above 0 and at most 1.")
        demand(0 <= self.ema < 1, f"train.ema is {self.ema}; it must be at least 0 and below 1.")


@dataclass(frozen=True)
class Engine:
    """What DeepSpeed is told."""

    precision: str = "auto"  # fp32 on CPU, bf16 on GPU
    zero_stage: int = 0
    bucket_size: int = 50_000_000  # numbers that ZeRO reduces and gathers at once; each bucket takes memory
    whole_below: int = 100_000  # ZeRO stage 3 only: parameters of at most so many numbers stay whole everywhere
    offload_optimizer: bool = False  # its states lie in the CPU's memory
    offload_parameters: bool = False  # ZeRO stage 3 only
    gradient_clipping: float = 1.0
    initial_scale_power: int = 16  # fp16 only, whose scale is dynamic
    activation_checkpointing: bool = False
    contiguous_memory: bool = False  # of checkpointed activations, in DeepSpeed's configuration
    number_checkpoints: int = 9  # stages of EfficientNetV2-L

    def __post_init__(self) -> None:
        demand_choice("engine.precision", self.precision, ("auto", "fp32", "bf16", "fp16"))
        demand(self.zero_stage in (0, 1, 2, 3), f"engine.zero_stage is {self.zero_stage}; it must be 0, 1, 2 or 3.")
        demand(self.bucket_size >= 1_000_000, "engine.bucket_size must be at least 1000000.")
        demand(self.whole_below >= 0, "engine.whole_below must be at least 0.")
        demand(not self.offload_optimizer or self.zero_stage > 0, "engine.offload_optimizer needs zero_stage 1 to 3.")
        demand(not self.offload_parameters or self.zero_stage == 3, "engine.offload_parameters needs zero_stage 3.")


@dataclass(frozen=True)
class Recipe:
    name: str = "recipe"
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    augment: Augment = field(default_factory=Augment)
    train: Train = field(default_factory=Train)
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        demand(
            not self.train.cache_activations or self.model.frozen_stages != 0,
            "train.cache_activations keeps what the frozen stages compute; set model.frozen_stages above 0, or to -1.",
        )
        demand(
            self.train.cache_activations != 1 or not self.augment.anything(),
            "With train.cache_activations = 1 no augmentation is possible; raise it or empty [augment].",
        )
        demand(
            not (self.train.ema and self.engine.zero_stage == 3),
            "train.ema averages whole weights, and engine.zero_stage 3 leaves each process a part; set train.ema "
            "to 0 or engine.zero_stage to 2.",
        )
        demand(
            not (self.loss.soft_spread and self.model.fresh_head),
            "loss.soft_spread asks the start release's head, and model.fresh_head leaves it out; choose one of them.",
        )


SECTIONS = {f.name: f.default_factory for f in dataclasses.fields(Recipe) if f.name != "name"}


def fits(value: Any, kind: Any) -> bool:
    """Whether a TOML value is of a field's type; a whole number passes for a float, a bool for no number."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return any(fits(value, part) for part in typing.get_args(kind))
    if kind is types.NoneType:
        return value is None
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, typing.get_args(kind)[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, typing.get_args(kind)[1]) for item in value.values())
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def section(name: str, values: dict[str, Any]) -> Section:
    """One checked section of a recipe."""
    kind = SECTIONS[name]
    hints = typing.get_type_hints(kind)
    for key, value in values.items():
        demand(key in hints, f"The recipe has no setting {name}.{key}; it knows {', '.join(hints)}.")
        if isinstance(value, list):
            values = {**values, key: tuple(value)}
        if value == "none" and type(None) in typing.get_args(hints[key]):  # TOML has no word for nothing
            values = {**values, key: None}
        wanted = getattr(hints[key], "__name__", None) if not typing.get_args(hints[key]) else hints[key]
        demand(fits(values[key], hints[key]), f"{name}.{key} is {value!r}; it must be of type {wanted}.")
    return kind(**values)


def from_values(values: dict[str, Any]) -> Recipe:
    unknown = sorted(set(values) - {*SECTIONS, "name"})
    demand(not unknown, f"A recipe has no part {', '.join(unknown)}; its parts are {', '.join(SECTIONS)}.")
    for name in SECTIONS:
        demand(isinstance(values.get(name, {}), dict), f"{name} must be a section: [{name}].")
    parts = {name: section(name, dict(values.get(name, {}))) for name in SECTIONS}
    return Recipe(name=str(values.get("name", "recipe")), **parts)


def parse_setting(text: str) -> tuple[str, str, Any]:
    """`train.epochs=3` -> ("train", "epochs", 3); a value that is no TOML is taken as text."""
    path, equals, value = text.partition("=")
    part, dot, key = path.strip().partition(".")
    demand(bool(equals and dot), f"--set {text!r} is not of the form section.key=value.")
    try:
        return part, key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return part, key, value


def find(recipe: str | Path) -> Path:
    """A recipe by the path of its file, or by the name of one in training/recipes."""
    for path in (Path(recipe), RECIPES / f"{recipe}.toml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
    raise RecipeError(f"There is no recipe {str(recipe)!r}; give a file, or one of {known}.")


def read(recipe: str | Path, settings: typing.Sequence[str] = ()) -> Recipe:
    path = find(recipe)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path.name} is not TOML: {error}.") from error
    for setting in settings:
        part, key, value = parse_setting(setting)
        demand(part in SECTIONS, f"A recipe has no part {part}; its parts are {', '.join(SECTIONS)}.")
        values.setdefault(part, {})[key] = value
    return from_values({"name": path.stem, **values})


def toml_value(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + " }" if value else "{}"
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def to_toml(recipe: Recipe) -> str:
    """The recipe with every value stated; `read` gives the same recipe back."""
    lines = [f"name = {json.dumps(recipe.name)}"]
    for name in SECTIONS:
        lines += ["", f"[{name}]"]
        part = getattr(recipe, name)
        lines += [f"{f.name} = {toml_value(getattr(part, f.name))}" for f in dataclasses.fields(part)]
    return "\n".join(lines) + "\n"
