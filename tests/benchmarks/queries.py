"""300 searches in 20 kinds over the made collection, each as text for us and as a tree for the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from tests.benchmarks.collection import Collection, World

WILDCARD_TAGS = 100  # as many as a wildcard stands for, here and at Danbooru: the most used
Tree = tuple[Any, ...]  # ("tag", id) ("ai", id, byte) ("rating", 0..3) ("not", tree) ("and", ...) ("or", ...)


@dataclass(frozen=True)
class Query:
    kind: str
    tree: Tree
    order: str = ""  # "" is newest first

    def text(self, world: World) -> str:
        return (_text(self.tree, world) + self.order).strip()


def _text(tree: Tree, world: World, inside: bool = False) -> str:
    match tree:
        case ("tag", tag):
            return world.names[tag - 1]
        case ("ai", tag, percent):
            return f"ai:{world.names[tag - 1]},>={percent}%"
        case ("rating", rating):
            return "rating:" + "gsqe"[rating]
        case ("wild", pattern, _):
            return pattern
        case ("not", part):
            return "-" + _text(part, world, True)
        case ("and", *parts):
            text = " ".join(_text(part, world, True) for part in parts)
        case ("or", *parts):
            text = " or ".join(_text(part, world, True) for part in parts)
    return f"({text})" if inside else text


def _pick(rng: np.random.Generator, world: World, low: int, high: int, n: int) -> list[Tree]:
    """n different general tags between two ranks of popularity."""
    return [("tag", int(world.general[rank]) + 1) for rank in rng.choice(np.arange(low, high), n, replace=False)]


class _Maker:
    """Trees of random tags of each sort; the same seed makes the same searches."""

    def __init__(self, collection: Collection, per_kind: int, seed: int) -> None:
        self.world, self.rng = collection.world, np.random.default_rng(seed)
        self.counts = collection.counts()
        numbers = self.rng.integers(1_000, 2_900, per_kind)
        self.patterns = iter(["*", "general_1*", "character_*", *(f"general_{n}*" for n in numbers)])

    def common(self, n: int) -> list[Tree]:
        return _pick(self.rng, self.world, 0, 60, n)

    def mid(self, n: int) -> list[Tree]:
        return _pick(self.rng, self.world, 300, 3_000, n)

    def rare(self, n: int) -> list[Tree]:
        return _pick(self.rng, self.world, 8_000, 25_000, n)

    def character(self) -> Tree:
        at = int(self.rng.integers(0, 300))
        shown = {int(tag) + 1 for tag in self.world.attributes[at][:2]}
        return ("and", ("tag", int(self.world.characters[at]) + 1), *(("tag", tag) for tag in sorted(shown)))

    def wild(self) -> Tree:
        pattern = next(self.patterns)
        found = [tag for tag, name in enumerate(self.world.names, 1) if fnmatchcase(name, pattern)]
        found.sort(key=lambda tag: (-self.counts[tag], self.world.names[tag - 1]))
        return ("wild", pattern, tuple(found[:WILDCARD_TAGS]))

    def era(self) -> Tree:
        return ("tag", int(self.world.years[self.rng.integers(0, 6)]) + 1)

    def group(self) -> Tree:
        inner: Tree = ("or", *self.mid(2))
        for _ in range(4):
            inner = ("or", ("and", inner, *self.common(1)), *self.mid(1))
        return ("and", inner, ("not", self.common(1)[0]))


def make_queries(collection: Collection, per_kind: int = 15, seed: int = 7) -> list[Query]:
    make = _Maker(collection, per_kind, seed)
    common, mid, rare = make.common, make.mid, make.rare
    kinds: dict[str, Callable[[], Tree]] = {
        "1 common": lambda: common(1)[0],
        "1 mid": lambda: mid(1)[0],
        "1 rare": lambda: rare(1)[0],
        "2 common": lambda: ("and", *common(2)),
        "common and mid": lambda: ("and", *common(1), *mid(1)),
        "common and rare": lambda: ("and", *common(1), *rare(1)),
        "3 mid": lambda: ("and", *mid(3)),
        "5 mixed": lambda: ("and", *common(3), *mid(2)),
        "common not common": lambda: ("and", *common(1), ("not", common(1)[0])),
        "mid not 2 common": lambda: ("and", *mid(1), *(("not", tag) for tag in common(2))),
        "3 mid or": lambda: ("or", *mid(3)),
        "deep group": make.group,
        "character and looks": make.character,
        "wildcard": make.wild,
        "2 exclusive ratings": lambda: ("and", ("rating", 0), ("rating", 3)),
        "old era": lambda: ("and", make.era(), *mid(1)),
        "12 negated common": lambda: ("and", *(("not", tag) for tag in common(12))),
        "8 common": lambda: ("and", *common(8)),
        "ai at 90 %": lambda: ("and", ("ai", mid(1)[0][1], 90), *common(1)),
        "ordered by size": lambda: ("and", *common(1), *mid(1)),
    }
    orders = {"ordered by size": " order:filesize"}
    return [Query(kind, tree(), orders.get(kind, "")) for kind, tree in kinds.items() for _ in range(per_kind)]


class Reference:
    """Which posts match, by plain numpy over dense arrays: slow, obvious, and right."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self._dense: dict[int, np.ndarray] = {}
        self.rating = np.concatenate([[9], *(block.ratings for block in collection.blocks)])
        self.file_size = 100_000 + np.arange(collection.posts + 1) % 900_000

    def dense(self, tag: int) -> np.ndarray:
        if tag not in self._dense:
            if len(self._dense) > 1500:
                self._dense.clear()
            self._dense[tag] = self.collection.dense(tag)
        return self._dense[tag]

    def said(self, tag: int) -> np.ndarray:
        """[posts + 1] the release's byte of one tag by post id, whatever people said."""
        found = self.dense(tag).copy()
        verdicts = np.concatenate([block.verdicts for block in self.collection.blocks])
        verdicts = verdicts[verdicts[:, 1] == tag]
        found[verdicts[:, 0]] = verdicts[:, 2]
        return found

    def mask(self, tree: Tree, byte_of: Any) -> np.ndarray:
        match tree:
            case ("tag", tag):
                return self.dense(tag) >= byte_of(tag)
            case ("wild", _, tags):
                return np.logical_or.reduce([self.dense(tag) >= byte_of(tag) for tag in tags])
            case ("ai", tag, percent):
                return self.said(tag) >= -(-percent * 254 // 100)
            case ("rating", rating):
                return self.rating == rating
            case ("not", part):
                return ~self.mask(part, byte_of)
            case ("and", *parts):
                return np.logical_and.reduce([self.mask(part, byte_of) for part in parts])
            case ("or", *parts):
                return np.logical_or.reduce([self.mask(part, byte_of) for part in parts])
        raise ValueError(tree)

    def matching(self, query: Query, byte_of: Any) -> np.ndarray:
        """Post ids in the order of the query."""
        found = self.mask(query.tree, byte_of)
        found[0] = False
        ids = np.flatnonzero(found)[::-1]
        if query.order:
            ids = ids[np.argsort(-self.file_size[ids], kind="stable")]
        return ids
