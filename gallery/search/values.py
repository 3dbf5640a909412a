"""How the values of metatags are written: numbers, sizes, ratios, dates, ages, and ranges of them.

    range = ">=" x | ">" x | "<=" x | "<" x | x ".." x | x "..." x | x ".." | ".." x | x
    list  = range { "," range }

`a..b` has both ends in, `a...b` leaves the last out, and ends in the wrong order are swapped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple

import numpy as np
from django.utils import timezone

from gallery.search.errors import Fix, SearchError, did_you_mean


class Sql(NamedTuple):
    """A piece of a statement and the parameters for its `%s`, in order; a tuple among them is an array."""

    text: str
    params: tuple[Any, ...] = ()

    def run(self, cursor: Any) -> None:
        cursor.execute(self.text, [list(value) if isinstance(value, tuple) else value for value in self.params])


NEVER = Sql("false")
ALWAYS = Sql("true")


def all_sql(parts: list[Sql]) -> Sql:
    return _joined(parts, " and ") if parts else ALWAYS


def any_sql(parts: list[Sql]) -> Sql:
    return _joined(parts, " or ") if parts else NEVER


def _joined(parts: list[Sql], word: str) -> Sql:
    if len(parts) == 1:
        return parts[0]
    return Sql(f"({word.join(part.text for part in parts)})", tuple(value for part in parts for value in part.params))


class BadValue(ValueError):
    """A value that does not read; the text says what would, and `near` is the one probably meant."""

    def __init__(self, text: str, near: str | None = None) -> None:
        super().__init__(text + did_you_mean(near) if near else text)
        self.near = near

    def of(self, name: str, value: str, position: int, length: int) -> SearchError:
        """The error of the term `name:value` that stands there."""
        sentence = str(self)
        ending = "" if sentence.endswith(("?", ".")) else "."
        fix = Fix(position, length, f"{name}:{self.near}") if self.near else None
        return SearchError(f"{name}:{value} does not work: {sentence}{ending}", position, length, fix)


@dataclass(frozen=True)
class Range:
    """Numbers or times between two ends, each in or out, None being open."""

    low: Any = None
    high: Any = None
    low_in: bool = True
    high_in: bool = True

    def sql(self, expression: str) -> Sql:
        parts = []
        if self.low is not None:
            parts.append(Sql(f"{expression} {'>=' if self.low_in else '>'} %s", (self.low,)))
        if self.high is not None:
            parts.append(Sql(f"{expression} {'<=' if self.high_in else '<'} %s", (self.high,)))
        return all_sql(parts)

    def mask(self, column: np.ndarray) -> np.ndarray:
        """Which entries of a numeric column lie within; a bool array of its shape."""
        within = np.ones(column.shape, bool)
        if self.low is not None:
            low = _number_of(self.low)
            within &= (column >= low) if self.low_in else (column > low)
        if self.high is not None:
            high = _number_of(self.high)
            within &= (column <= high) if self.high_in else (column < high)
        return within


def _number_of(value: Any) -> float:
    return value.timestamp() if isinstance(value, datetime) else float(value)


Ranges = tuple[Range, ...]


class Point(NamedTuple):
    """One end of a range. A day has an `end` after it; `equal` is what the bare value matches, if not itself."""

    start: Any
    end: Any = None
    equal: Range | None = None

    def at_least(self, included: bool = True) -> dict[str, Any]:
        if self.end is not None and not included:
            return {"low": self.end, "low_in": True}
        return {"low": self.start, "low_in": included}

    def at_most(self, included: bool = True) -> dict[str, Any]:
        if self.end is not None:
            return {"high": self.end if included else self.start, "high_in": False}
        return {"high": self.start, "high_in": included}


Reader = Callable[[str], Point]


def read_ranges(text: str, reader: Reader) -> Ranges:
    """Ranges of a list such as `5,7..9,>20`; raises BadValue."""
    return tuple(read_range(part.strip(), reader) for part in text.split(","))


def read_range(text: str, reader: Reader) -> Range:
    if match := re.fullmatch(r"(>=|<=|>|<|=)(.*)", text, re.DOTALL):
        sign, point = match[1], reader(match[2].strip())
        if sign != "=":
            return Range(**(point.at_least(sign == ">=") if sign[0] == ">" else point.at_most(sign == "<=")))
        text = match[2].strip()
    if match := re.fullmatch(r"(.*?)(\.{2,3})(.*)", text, re.DOTALL):
        return _between(match[1].strip(), match[3].strip(), match[2] == "..", reader)
    point = reader(text)
    return point.equal or Range(**point.at_least(), **point.at_most())


def _between(first: str, last: str, included: bool, reader: Reader) -> Range:
    if not first and not last:
        raise BadValue("a range needs at least one end, as in 5.. or ..5")
    low, high = reader(first) if first else None, reader(last) if last else None
    if low and high and high.start < low.start:
        low, high = high, low
    return Range(**(low.at_least() if low else {}), **(high.at_most(included) if high else {}))


_LARGEST = 10**18 - 1  # any number of 18 digits is one of the database's, too


def whole(text: str) -> Point:
    match = re.fullmatch(r"([+-]?)0*([0-9]+)", text)
    if not match:
        raise BadValue("give a whole number, as in 5, >=5 or 5..10")
    if len(match[2]) > len(str(_LARGEST)):
        size = "small" if match[1] == "-" else "large"
        raise BadValue(f"the number is too {size}: give one from -{_LARGEST} to {_LARGEST}")
    return Point(int(match[1] + match[2]))


def decimal(text: str) -> Point:
    return Point(_decimal(text, "give a number, as in 1.5, >=1.5 or 1..2"))


def _decimal(text: str, remedy: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)", text):
        raise BadValue(remedy)
    if max(map(len, text.lstrip("+-").split("."))) > 15:
        raise BadValue("the number is too long: give at most 15 digits before its point and 15 after it")
    return float(text)


def ratio(text: str) -> Point:
    """Width by height to two digits: 16:9, 16/9 or 1.78."""
    remedy = "give a ratio, as in 16:9, 16/9 or 1.78"
    first, separator, second = text.partition(":" if ":" in text else "/")
    value = _decimal(first, remedy)
    if separator:
        divisor = _decimal(second, remedy)
        if not divisor:
            raise BadValue(remedy)
        value /= divisor
    return Point(round(value, 2))


def file_size(text: str) -> Point:
    """Bytes, or 1.5mb, 200kb (by 1024), which alone match what is within 5 %."""
    match = re.fullmatch(r"([0-9.]+)(b|kb?|mb?|gb?)?", text, re.IGNORECASE)
    if not match:
        raise BadValue("give a size, as in 200kb, >1.5mb or 1mb..4mb")
    value = _decimal(match[1], "give a size, as in 200kb, >1.5mb or 1mb..4mb")
    unit = (match[2] or "b").lower()
    size = value * 1024 ** "bkmg".index(unit[0])
    about = Range(size * 0.95, size * 1.05) if match[2] and unit != "b" else None
    return Point(size, equal=about)


def percent(text: str) -> Point:
    """A confidence from 0 to 1: 90%, 90 or 0.9; alone, up to the next whole percent. 0 is not predicted."""
    remedy = "give a percentage, as in >90%, 70..80 or 0"
    value = _decimal(text.removesuffix("%"), remedy)
    if text.endswith("%") or value > 1 or "." not in text:
        value /= 100
    if not 0 <= value <= 1:
        raise BadValue(remedy)
    return Point(value, equal=Range(value, value + 0.01, high_in=False) if value else Range(0, 0))


_AGE_SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("mi", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400),
    **dict.fromkeys(("mo", "month", "months"), 30 * 86400),
    **dict.fromkeys(("y", "year", "years"), 365 * 86400),
}


def age(text: str) -> Point:
    """Seconds; alone, `2w` is from two weeks up to three. A month is 30 days, a year 365."""
    match = re.fullmatch(r"([0-9]{1,9})\s*([a-z]+)", text.lower())
    if not match or match[2] not in _AGE_SECONDS:
        raise BadValue("give an age with its unit (s mi h d w mo y), as in <2w or 1d..3d")
    unit = _AGE_SECONDS[match[2]]
    seconds = int(match[1]) * unit
    return Point(seconds, equal=Range(seconds, seconds + unit, high_in=False))


def day(text: str) -> Point:
    """A day, month or year in the site's time zone, or a minute or second of it: 2024-01-31, 2024-01, 2024-01-31T12:30.

    Days may be written as 20240131, 31 January 2024 or jan_31_2024, too.
    """
    remedy = "give a date, as in 2024-01-31, 2024-01, 2024, today or 2024-01-01..2024-02-01"
    today = timezone.localdate()
    words = {"today": today, "yesterday": today - timedelta(days=1)}
    try:
        if text.lower() in words:
            return _span(words[text.lower()], days=1)
        if match := re.fullmatch(r"(\d{4})(?:[-/](\d{1,2}))?(?:[-/](\d{1,2}))?", text, re.ASCII):
            year, month, number = (int(part) if part else 0 for part in match.groups())
            first = date(year, month or 1, number or 1)
            return _span(first, days=1) if number else _span(first, months=1 if month else 12)
        if (first := _written_out(text)) or not re.search(r"[T: ]", text):
            return _span(first or date.fromisoformat(text), days=1)
        return _moment(text)
    except (ValueError, OverflowError):
        raise BadValue(remedy) from None


_MONTHS = "january february march april may june july august september october november december".split()  # noqa: SIM905


def _written_out(text: str) -> date | None:
    """A day with its month in English words; ValueError for a 31 April."""
    words = re.split(r"[\s_,.]+", text.lower())
    if len(words) != 3:
        return None
    number, month, year = words if words[0].isdecimal() else (words[1], words[0], words[2])
    meant = [at for at, name in enumerate(_MONTHS, 1) if len(month) > 2 and name.startswith(month)]
    if not meant or not re.fullmatch(r"[0-9]{1,2}", number) or not re.fullmatch(r"[0-9]{4}", year):
        return None
    return date(int(year), meant[0], int(number))


def _moment(text: str) -> Point:
    """A minute, or a second when the text tells it; alone it matches all of its length."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else timezone.make_aware(moment)
    moment.utctimetuple()  # the ends of the calendar overflow here, not in the database
    to_the_second = moment.second or re.search(r":\d\d:\d\d", text)
    length = timedelta(seconds=1) if to_the_second else timedelta(minutes=1)
    return Point(moment, equal=Range(moment, moment + length, high_in=False))


def _span(first: date, days: int = 0, months: int = 0) -> Point:
    after = first + timedelta(days=days)
    if months:
        index = first.year * 12 + first.month - 1 + months
        after = date(index // 12, index % 12 + 1, 1)
    start, end = (timezone.make_aware(datetime.combine(each, time())) for each in (first, after))
    return Point(start, end)
