"""metrics.jsonl, read as it grows and thinned to what a chart can show.

Rows are read by byte offset, a little at a time. A last line without its end waits; a file that was replaced or cut
(a resumed run forgets the steps after its last checkpoint) is read again from the start. Each kind of row becomes a
`Series` of at most 2 x KEPT points: when it is full, neighbours are merged, so a million rows cost what a few
thousand do, and the smallest and largest value of each point stay known.
"""

import json
import math
import threading
import time
from array import array
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

KEPT = 1024
CHUNK = 2**20
MOST_COLUMNS, MOST_KINDS, MOST_NOTES = 200, 16, 200
MOST_ROWS_ZOOMED = 20_000
NEVER_AVERAGED = ("step", "epoch", "elapsed")  # a point lies where its last row does
TAIL = 64
LARGEST, DEEPEST = 1e300, 5
Columns = dict[str, list[float | None]]


def numbers(row: dict[str, Any], prefix: str = "", depth: int = 0) -> dict[str, float]:
    """A row's numbers; those in inner tables under dotted names, `memory.gpu`. What is not finite is left out."""
    found: dict[str, float] = {}
    for key, value in row.items():
        kind = type(value)
        if kind is float or kind is int:
            if -LARGEST < value < LARGEST:
                found[prefix + key] = float(value)
        elif kind is dict and depth < DEEPEST:
            found |= numbers(value, f"{prefix}{key}.", depth + 1)
    return found


class Column:
    """One name's points: sums and counts for the mean, and the extremes. The last point is gathered beside them."""

    __slots__ = ("sums", "counts", "lows", "highs", "total", "count", "low", "high")

    def __init__(self, points: int) -> None:
        self.sums, self.counts = array("d", bytes(8 * points)), array("q", bytes(8 * points))
        self.lows, self.highs = array("d", bytes(8 * points)), array("d", bytes(8 * points))
        self.clear()

    def clear(self) -> None:
        self.total, self.count, self.low, self.high = 0.0, 0, math.inf, -math.inf

    def settle(self) -> None:
        """What was gathered into the last point."""
        if self.count:
            self.sums[-1], self.counts[-1] = self.total, self.count
            self.lows[-1], self.highs[-1] = self.low, self.high

    def grow(self) -> None:
        """The next point begins."""
        self.settle()
        self.clear()
        for values in (self.sums, self.counts, self.lows, self.highs):
            values.append(0)

    def merge(self) -> None:
        """Two points become one."""
        self.settle()
        self.clear()
        told = list(zip(self.sums, self.counts, self.lows, self.highs, strict=True))
        pairs = [[point for point in told[at : at + 2] if point[1]] for at in range(0, len(told), 2)]
        self.sums = array("d", (sum(point[0] for point in pair) for pair in pairs))
        self.counts = array("q", (sum(point[1] for point in pair) for pair in pairs))
        self.lows = array("d", (min((point[2] for point in pair), default=0) for pair in pairs))
        self.highs = array("d", (max((point[3] for point in pair), default=0) for pair in pairs))

    def cut(self, points: int) -> None:
        self.clear()
        for values in (self.sums, self.counts, self.lows, self.highs):
            del values[points:]

    def means(self, start: int) -> list[float | None]:
        pairs = zip(self.sums[start:], self.counts[start:], strict=True)
        return [tidy(total / count) if count else None for total, count in pairs]

    def ends(self, which: str, start: int) -> list[float | None]:
        pairs = zip(getattr(self, which)[start:], self.counts[start:], strict=True)
        return [tidy(value) if count else None for value, count in pairs]


def tidy(value: float) -> float:
    """Seven digits are more than a chart shows."""
    return float(f"{value:.7g}")


class Series:
    """The rows of one kind."""

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self.width = 1  # rows that a point stands for
        self.rows = 0
        self.starts = array("q")  # where each point's first row begins in the file
        self.columns: dict[str, Column] = {}
        self.last: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, row: dict[str, Any], offset: int) -> bool:
        """Takes in a row. True when points that were told before have changed."""
        found, changed = numbers(row), False
        step = found.get("step")
        if step is not None and step < self.last.get("step", step):
            changed = self.forget_from(step)
        if self.rows % self.width == 0:
            if len(self) == 2 * self.kept:
                self.halve()
                changed = True
            self.starts.append(offset)
            for column in self.columns.values():
                column.grow()
        self.rows += 1
        self.last = found
        for name, value in found.items():
            column = self.columns.get(name) or self.new_column(name)
            if column:
                column.total += value
                column.count += 1
                if value < column.low:
                    column.low = value
                if value > column.high:
                    column.high = value
        return changed

    def new_column(self, name: str) -> Column | None:
        """None for what is only kept as it is now, as cells by category are, and for more columns than charts have."""
        if len(self.columns) == MOST_COLUMNS or (name.startswith("cells.") and ".overall." not in name):
            return None
        self.columns[name] = Column(len(self))
        return self.columns[name]

    def settle(self) -> None:
        for column in self.columns.values():
            column.settle()

    def halve(self) -> None:
        for column in self.columns.values():
            column.merge()
        self.starts = self.starts[::2]
        self.width *= 2

    def forget_from(self, step: float) -> bool:
        """A run that went back to an earlier step takes those steps again."""
        self.settle()
        steps = self.columns.get("step")
        if not steps:
            return False
        keep = len(self)
        while keep and (not steps.counts[keep - 1] or steps.highs[keep - 1] >= step):
            keep -= 1
        del self.starts[keep:]
        for column in self.columns.values():
            column.cut(keep)
        self.rows = keep * self.width
        return True

    def points(self, start: int = 0) -> Columns:
        """The columns from a point on; a loss also with its extremes where points stand for several rows."""
        self.settle()
        told: Columns = {}
        for name, column in self.columns.items():
            if name in NEVER_AVERAGED:
                told[name] = column.ends("highs", start)
                continue
            told[name] = column.means(start)
            if self.width > 1 and "loss" in name:
                told[f"{name}:low"], told[f"{name}:high"] = column.ends("lows", start), column.ends("highs", start)
        return told


class Metrics:
    """One run's metrics.jsonl."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self.generation = time.time_ns()  # a reader who has another one starts anew
        self.offset = 0
        self.size = 0
        self.tail = b""
        self.damaged = 0
        self.series: dict[str, Series] = {}
        self.notes: deque[dict[str, Any]] = deque(maxlen=MOST_NOTES)

    def read(self, seconds: float = 0.5) -> None:
        """Takes in what has come, for about so long; what is left then comes with the next call."""
        end = time.monotonic() + seconds
        try:
            with open(self.file, "rb") as file:
                self.size = file.seek(0, 2)
                if not self.continues(file):
                    self.reset()
                    self.size = file.seek(0, 2)
                while time.monotonic() < end and self.take(self.next_chunk(file)):
                    pass
        except FileNotFoundError:
            if self.offset:
                self.reset()

    def continues(self, file: BinaryIO) -> bool:
        """Whether what was read is still there, right before where reading goes on."""
        if self.size < self.offset:
            return False
        file.seek(self.offset - len(self.tail))
        return file.read(len(self.tail)) == self.tail

    def next_chunk(self, file: BinaryIO) -> bytes:
        file.seek(self.offset)
        return file.read(CHUNK)

    def take(self, chunk: bytes) -> bool:
        """The whole lines of a chunk; False when there are none."""
        whole = chunk.rfind(b"\n") + 1
        if not whole:
            if len(chunk) < CHUNK:
                return False
            whole = len(chunk)  # no line of ours is that long
        offset = self.offset
        for line in chunk[:whole].split(b"\n"):
            self.line(line, offset)
            offset += len(line) + 1
        self.offset += whole
        self.tail = (self.tail + chunk[:whole])[-TAIL:]
        return True

    def line(self, line: bytes, offset: int) -> None:
        row = parsed(line)
        if row is None:
            self.damaged += bool(line.strip())
            return
        kind = str(row.pop("kind", "train"))[:40]
        text = row.get("text") or row.get("message")
        if isinstance(text, str):
            self.notes.append({"kind": kind, "step": row.get("step"), "text": text[:2000]})
        if kind == "note" or (kind not in self.series and len(self.series) == MOST_KINDS):
            return
        if self.series.setdefault(kind, Series()).add(row, offset):
            self.generation = time.time_ns()

    def since(self, generation: int, known: dict[str, int]) -> dict[str, Any]:
        """What a reader of `generation` with so many whole points of each kind lacks."""
        fresh = generation != self.generation
        kinds = {}
        for kind, series in self.series.items():
            start = 0 if fresh else min(max(known.get(kind, 0), 0), len(series))
            kinds[kind] = {
                "from": start,
                "width": series.width,
                "rows": series.rows,
                "columns": series.points(start),
                "last": series.last,
            }
        return {
            "generation": str(self.generation),
            "fresh": fresh,
            "kinds": kinds,
            "notes": list(self.notes),
            "unread": max(self.size - self.offset, 0),
            "size": self.size,
            "damaged": self.damaged,
        }

    def zoom(self, kind: str, low: float, high: float) -> Columns | None:
        """The rows between two steps from the file itself; None where they are too many, or not thinned anyway."""
        series = self.series.get(kind)
        if not series or series.width == 1 or "step" not in series.columns:
            return None
        series.settle()
        ends = series.columns["step"].ends("highs", 0)
        inside = [at for at, step in enumerate(ends) if step is not None and low <= step]
        first = inside[0] if inside else len(ends)
        last = next((at for at in inside if ends[at] > high), len(ends) - 1)  # type: ignore[operator]
        if first > last or (last - first + 1) * series.width > MOST_ROWS_ZOOMED:
            return None
        stop = series.starts[last + 1] if last + 1 < len(series) else self.offset
        close = Series()
        for row, offset in self.rows_between(series.starts[first], stop):
            step = numbers({"step": row.get("step")}).get("step", low - 1)
            if row.pop("kind", "train") == kind and low <= step <= high:
                close.add(row, offset)
        return close.points()

    def rows_between(self, start: int, stop: int) -> Iterable[tuple[dict[str, Any], int]]:
        with open(self.file, "rb") as file:
            file.seek(start)
            while (offset := file.tell()) < stop and (line := file.readline(CHUNK)):
                row = parsed(line)
                if row is not None:
                    yield row, offset


def parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
