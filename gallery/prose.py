"""The part of Markdown that release cards are written in, as safe HTML: headings, paragraphs, lists, tables, code.

Everything is escaped first and links are left as text, so that a card from elsewhere can bring nothing in. A picture on
a line of its own is shown when it is one of the release's own; of any other only its words are left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+(.*)")
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]*)\)")
_RULE = re.compile(r"\|?[\s:|-]+\|?")


def to_html(text: str, pictures: Mapping[str, str] | None = None) -> SafeString:
    """Markdown to HTML; its headings begin at h3, below the page's own. `pictures` are addresses by file name."""
    blocks = _blocks(text.replace("\r\n", "\n").split("\n"), pictures or {})
    return mark_safe("\n".join(blocks))  # noqa: S308 - every part is escaped


def _blocks(lines: list[str], pictures: Mapping[str, str]) -> Iterator[str]:
    code: list[str] | None = None
    plain: list[str] = []
    for line in [*lines, ""]:
        if line.strip().startswith("```"):
            if code is None:
                yield from _paragraphs(plain, pictures)
                plain, code = [], []
            else:
                yield f"<pre><code>{escape(chr(10).join(code))}</code></pre>"
                code = None
        elif code is not None:
            code.append(line)
        else:
            plain.append(line)
    yield from _paragraphs(plain + (code or []), pictures)


def _paragraphs(lines: list[str], pictures: Mapping[str, str]) -> Iterator[str]:
    for kind, group in groupby(lines, key=_kind):
        found = list(group)
        if kind == "heading":
            for line in found:
                marks, words = _HEADING.fullmatch(line.strip()).groups()  # type: ignore[union-attr]
                yield f"<h{min(6, len(marks) + 2)}>{_inline(words)}</h{min(6, len(marks) + 2)}>"
        elif kind == "table":
            yield _table(found)
        elif kind == "item":
            items = "".join(f"<li>{_inline(_ITEM.fullmatch(line)[1])}</li>" for line in found)  # type: ignore[index]
            yield f"<ul>{items}</ul>"
        elif kind == "picture":
            yield from (_picture(line, pictures) for line in found)
        elif kind == "text":
            yield f"<p>{_inline(' '.join(line.strip() for line in found))}</p>"


def _kind(line: str) -> str:
    stripped = line.strip()
    if not stripped:
        return "blank"
    if _HEADING.fullmatch(stripped):
        return "heading"
    if stripped.startswith("|"):
        return "table"
    if _PICTURE.fullmatch(stripped):
        return "picture"
    return "item" if _ITEM.fullmatch(line) else "text"


def _picture(line: str, pictures: Mapping[str, str]) -> str:
    words, name = _PICTURE.fullmatch(line.strip()).groups()  # type: ignore[union-attr]
    if name not in pictures:
        return f"<p>{escape(words)}</p>"
    return f'<figure><img src="{escape(pictures[name])}" alt="{escape(words)}" loading="lazy"></figure>'


def _table(lines: list[str]) -> str:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    has_head = len(lines) > 1 and _RULE.fullmatch(lines[1].strip()) is not None
    head = f"<thead>{_row(rows[0], 'th')}</thead>" if has_head else ""
    body = "".join(_row(row, "td") for row in (rows[2:] if has_head else rows))
    return f'<div class="table-wrap"><table class="table">{head}<tbody>{body}</tbody></table></div>'


def _row(cells: list[str], element: str) -> str:
    return "<tr>" + "".join(f"<{element}>{_inline(cell)}</{element}>" for cell in cells) + "</tr>"


def _inline(text: str) -> str:
    text = escape(text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
