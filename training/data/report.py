"""What each step of making a dataset kept and dropped, and why: printed, and written beside the data."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from training.data.images import Images

if TYPE_CHECKING:
    from training.data.danbooru import Order


class Report:
    """`entries` are {"step", "kept", "dropped", "why"}, in order; the last has "seconds" and "peak_bytes" too."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def add(self, step: str, kept: int, dropped: int, why: str) -> None:
        self.entries.append({"step": step, "kept": kept, "dropped": dropped, "why": why})

    def tags(self, told: Mapping[str, Mapping[str, int]], minima: Mapping[str, int], rows: int) -> None:
        self.add("posts in the metadata", rows, 0, "")
        for category, one in told.items():
            share = 100 * one["kept_uses"] / max(one["uses"], 1)
            why = f"on fewer than {minima.get(category, 0)} posts; the kept ones are {share:.1f} % of all uses"
            self.add(f"{category} tags", one["kept"], one["names"] - one["kept"], why)

    def images(self, images: Images) -> None:
        self.add("pictures found", len(images), images.unknown, "files named neither by a number nor by an md5")
        if images.twice:
            self.add("pictures found", len(images), images.twice, "further files of the same post")

    def posts(self, rows: int, dropped: Mapping[str, int], left: int, chosen: int, order: "Order") -> None:
        kept = rows
        for why, count in dropped.items():
            kept -= count
            self.add("posts", kept, count, why)
        if left != chosen:
            how = "not among the newest" if order.choose == "newest" else f"not drawn (seed {order.seed})"
            self.add("posts", chosen, left - chosen, how)

    def written(self, counts: Mapping[str, int], unreadable: int, order: "Order") -> None:
        if unreadable:
            self.add("posts", sum(counts.values()), unreadable, "the picture's file could not be read: unreadable.txt")
        for split, count in counts.items():
            why = f"{order.validation:.1%} held out with seed {order.seed}" if split == "validation" else ""
            self.add(f"rows of {split}", count, 0, why)

    def cost(self, rows: int, seconds: float, memory: int) -> None:
        why = f"{seconds:.1f} s, {rows / max(seconds, 1e-9):,.0f} rows a second, at most {memory / 2**20:,.0f} MiB"
        self.add("time and memory", rows, 0, why)
        self.entries[-1] |= {"seconds": round(seconds, 1), "peak_bytes": memory}

    def text(self) -> str:
        lines = [f"{'step':24} {'kept':>12} {'dropped':>12}  why"]
        lines += [f"{e['step']:24} {e['kept']:>12,} {e['dropped']:>12,}  {e['why']}".rstrip() for e in self.entries]
        return "\n".join(lines)
