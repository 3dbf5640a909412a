"""The shape of a tagger as a release's `config.json` states it. Knows no torch, so the web process may read it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

# Channels of each backbone's last feature map; tagger/backbone.py builds them.
FEATURE_SIZES = {"efficientnet_v2_l": 1280, "efficientnet_lite0": 1280, "efficientnet_tiny": 320}
ATTENTION_RULES = ("chunk", "token")
STAGES = ("full", "initial")


class ArchitectureError(ValueError):
    """A sentence saying which value of an architecture cannot be built."""


@dataclass(frozen=True)
class Architecture:
    """Two stages over one backbone. The defaults are the published Camie Tagger v1, except its 70,527 tags.

    `embedding_size` is the width of the tag space. It may be narrower than the backbone's features,
    which the first layers of both classifiers and `cross_proj` then bring down to it.
    """

    tag_count: int
    backbone: str = "efficientnet_v2_l"
    embedding_size: int = 1280
    initial_hidden: int = 2560
    cross_hidden: int = 2560
    refined_hidden: int = 2560
    tag_context_size: int = 256
    heads: int = 16
    attention: str = "chunk"
    stages: str = "full"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("tag_count", "embedding_size", "initial_hidden", "cross_hidden", "refined_hidden"):
            self._require_positive(name)
        self._require_positive("tag_context_size")
        self._require_positive("heads")
        if self.backbone not in FEATURE_SIZES:
            raise ArchitectureError(
                f"No backbone is called {self.backbone!r}; choose one of {', '.join(FEATURE_SIZES)}."
            )
        if self.attention not in ATTENTION_RULES:
            raise ArchitectureError(f"The attention rule is {self.attention!r}; it must be chunk or token.")
        if self.stages not in STAGES:
            raise ArchitectureError(f"The stages are {self.stages!r}; they must be full or initial.")
        if self.embedding_size % self.heads:
            raise ArchitectureError(f"embedding_size {self.embedding_size} must be a multiple of heads {self.heads}.")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise ArchitectureError(f"The dropout is {self.dropout!r}; it must be at least 0 and below 1.")

    def _require_positive(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArchitectureError(f"{name} is {value!r}; it must be a whole number of at least 1.")

    @property
    def feature_size(self) -> int:
        return FEATURE_SIZES[self.backbone]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Architecture":
        """Builds from the `architecture` part of a config; a key it does not know is an error, not a shrug."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(config) - known):
            raise ArchitectureError(f"The architecture has unknown settings: {', '.join(unknown)}.")
        if "tag_count" not in config:
            raise ArchitectureError("The architecture lacks tag_count.")
        return cls(**config)

    def to_config(self) -> dict[str, Any]:
        return asdict(self)
