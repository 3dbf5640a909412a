"""The numbers under a list, and the addresses that they lead to."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from gallery import search
from gallery.search import nodes

_AROUND = 3  # numbers on each side of the page's own


@dataclass(frozen=True)
class Step:
    """A number of the pager; no address for the page one is on, no number for a gap."""

    number: int | None
    address: str = ""
    near: bool = True  # shown on phones, too


@dataclass(frozen=True)
class Pager:
    """`number` is the page's own, None behind the numbered ones; `last` is the last page's, when it is known."""

    number: int | None
    last: int | None
    steps: list[Step]
    previous: str
    next: str


def search_text(parameters: QueryDict) -> str:
    """The search; `limit=20` in the address, as on Danbooru, says what `limit:20` says in it."""
    text, limit = parameters.get("q", ""), parameters.get("limit", "")
    if not re.fullmatch(r"[1-9][0-9]{0,5}", limit):
        return text
    try:
        terms = nodes.top(search.parse(text))
    except search.SearchError:
        return text
    if any(isinstance(term, nodes.Metatag) and term.name in ("limit", "random") for term in terms):
        return text
    return search.to_text(nodes.all_of([*terms, nodes.Metatag("limit", limit)]))


def asked(parameters: QueryDict) -> dict[str, Any]:
    """What `search.find` is told of the page: a cursor, or `page=3`, or as Danbooru has it `page=b123` and `a123`."""
    place = {name: parameters[name] for name in ("before", "after") if parameters.get(name)}
    text = parameters.get("page", "")
    if place or not text:
        return place
    if match := re.fullmatch(r"([ab])([0-9]{1,18})", text):
        newer = match[1] == "a"
        return {"before" if newer else "after": search.beside(int(match[2]), newer)}
    return {"page": _number(text) or 0}


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def pager(parameters: QueryDict, page: search.Page, count: search.Count) -> Pager:
    """The steps away from a page. Those to the next and previous one go by cursor: quick, and nothing is missed."""
    known = _number(parameters.get("page", ""))
    number = known if known else (1 if page.previous is None else None)
    last = max(1, math.ceil(count.number / page.size))
    shown = min(_reachable(page, number, last, count.exact), search.MAX_PAGE)
    steps = _steps(page, number, shown, count.exact) if number else []
    preceding = number - 1 if number and number > 1 else None
    following = number + 1 if number and number < search.MAX_PAGE else None
    return Pager(
        number=number,
        last=last if count.exact else None,
        steps=steps if len(steps) > 1 else [],
        previous=_address(page, preceding, before=page.previous) if page.previous else "",
        next=_address(page, following, after=page.next) if page.next else "",
    )


def _reachable(page: search.Page, number: int | None, last: int, exact: bool) -> int:
    """The highest number to offer: an estimate is corrected by what the page itself tells."""
    if number is None or exact:
        return last
    return max(last, number + 1) if page.next else number


def _steps(page: search.Page, number: int, shown: int, exact: bool) -> list[Step]:
    wanted = {1, *range(max(1, number - _AROUND), min(shown, number + _AROUND) + 1)} | ({shown} if exact else set())
    steps: list[Step] = []
    for each in sorted(wanted):
        if steps and steps[-1].number != each - 1:
            steps.append(Step(None))
        address = "" if each == number else _address(page, each)
        steps.append(Step(each, address, abs(each - number) < 2 or each in (1, shown)))
    if not exact and shown > max(wanted):
        steps.append(Step(None))
    return steps


def _address(page: search.Page, number: int | None, **cursor: str | None) -> str:
    """The query string of a page; the first one has no number."""
    parameters = QueryDict(mutable=True)
    if page.text:
        parameters["q"] = page.text
    if number and number > 1:
        parameters["page"] = str(number)
    if number != 1:
        parameters.update({name: value for name, value in cursor.items() if value})
    return "?" + parameters.urlencode()
