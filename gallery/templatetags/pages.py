"""What templates need and Django lacks."""

from __future__ import annotations

import re

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from gallery.models import Category, Post
from gallery.search.errors import SearchError
from gallery.search.nodes import Metatag, tag_text, to_text

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """A symbol of static/img/icons.svg in the text's colour, silent for screen readers."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"/></svg>', static("img/icons.svg"), name)


@register.filter
def category_name(value: int | None) -> str:
    """`general` for 0, as in CSS classes tag-general; empty for what has no category."""
    return "" if value is None else Category(value).label


@register.filter
def spaced(name: str) -> str:
    """A tag's name for reading: long_hair is "long hair"; emoticons such as ^_^ and o_o stay."""
    return name.replace("_", " ") if re.search(r"[^\W_]{2}", name) else name


@register.filter
def part(byte: int | None) -> str:
    """A confidence byte as a part of one, for CSS: 127 is 0.500; a person's word (255) is 1."""
    return f"{min(byte or 0, 254) / 254:.3f}"


@register.filter
def percent(byte: int | None) -> str:
    """A confidence byte for reading: 50%."""
    return "" if byte is None else f"{min(byte, 254) / 254:.0%}"


@register.filter
def as_percent(value: float | None) -> str:
    """A part of one for reading: 35%, 26.2%."""
    return "" if value is None else f"{value * 100:.1f}".removesuffix(".0") + "%"


@register.filter
def roughly(number: int) -> int:
    """An estimate without digits that nobody knows: 46,500 for 46,512."""
    unit = 10 ** max(0, len(str(number)) - 3)
    return round(number / unit) * unit


@register.filter
def duration(seconds: float | None) -> str:
    """A length of time for reading, in its largest fitting unit: 40 seconds, 3 minutes, 2 hours."""
    value, unit = max(1, round(seconds or 0)), "second"
    for size, larger in ((60, "minute"), (60, "hour"), (24, "day")):
        if value < 2 * size:
            break
        value, unit = round(value / size), larger
    return f"{value:,} {unit}{'' if value == 1 else 's'}"


@register.filter
def ratio(post: Post) -> str:
    """Width by height for a grid cell; panoramas and scrolls are cropped to keep rows even."""
    return f"{min(2.4, max(0.5, post.width / max(1, post.height))):.3f}"


@register.filter
def marked(text: str, mistake: SearchError) -> tuple[str, str, str]:
    """A search cut in three: before the mistake, the mistake, after it."""
    end = mistake.position + max(1, mistake.length)
    return text[: mistake.position], text[mistake.position : end], text[end:]


@register.filter
def as_search(name: str) -> str:
    """How one types this tag into the search box."""
    return tag_text(name)


@register.filter
def is_web(source: str) -> bool:
    """Whether a source may become a link; javascript: and its kind stay text."""
    return source.startswith(("http://", "https://"))


@register.filter
def uploads_of(username: str) -> str:
    """The search for a person's uploads."""
    return to_text(Metatag("uploader", username))
