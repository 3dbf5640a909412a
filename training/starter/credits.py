"""Who drew what: the lines that have to travel with the pictures, and with what was learned from them."""

from collections import defaultdict
from collections.abc import Iterable

from training.starter.drawings import Drawing

LICENCES = {
    "CC BY-SA 4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "public domain": "https://creativecommons.org/publicdomain/mark/1.0/",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "MIT": "https://opensource.org/license/mit",
}
SETS = {
    "openmoji-color": "All emojis designed by OpenMoji - the open-source emoji and icon project. License: CC BY-SA 4.0",
    "openmoji-black": "All emojis designed by OpenMoji - the open-source emoji and icon project. License: CC BY-SA 4.0",
    "noto": "Noto Emoji, copyright Google LLC, licensed under the Apache License 2.0",
    "noto-v1": "Noto Emoji (earlier designs), copyright Google LLC, licensed under the Apache License 2.0",
    "twemoji": "Twemoji, copyright Twitter, Inc and other contributors, graphics licensed under CC BY 4.0",
    "fluent-emoji-flat": "Fluent Emoji, copyright Microsoft Corporation, licensed under the MIT License",
    "emojione": "EmojiTwo, licensed under CC BY 4.0",
    "streamline": "Streamline Emojis by Streamline, licensed under CC BY 4.0",
    "openclipart": "Openclipart, given to the public domain by the creators named",
    "comicgen": "Characters of comicgen, given away under CC0 1.0 by the artists named",
}
EMOJIBASE = """The keywords of the emoji come from emojibase-data:

> MIT License, copyright (c) Miles Johnson. Permission is hereby granted, free of charge, to any person obtaining a copy
> of this software and associated documentation files, to deal in the software without restriction, including without
> limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies, provided that
> the copyright notice and this permission notice are included in all copies or substantial portions. The software is
> provided "as is", without warranty of any kind.
"""
MICROSOFT = """Fluent Emoji:

> MIT License, copyright (c) Microsoft Corporation. Permission is hereby granted, free of charge, to any
> person obtaining a copy of this software and associated documentation files, to deal in the software without
> restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute,
> sublicense, and/or sell copies, provided that the copyright notice and this permission notice are included
> in all copies or substantial portions. The software is provided "as is", without warranty of any kind.
"""


def set_line(drawing: Drawing) -> str:
    """What the set a drawing comes from wants said; an avatar style carries its own line."""
    return SETS.get(drawing.family, drawing.source)


def credit_line(drawing: Drawing) -> str:
    """One line to show under a picture."""
    if drawing.family.startswith("dicebear-"):
        return f"{drawing.source}. Drawn by DiceBear, rendered to WebP."
    named = "" if drawing.family in {"noto", "twemoji", "fluent-emoji-flat"} else f"{drawing.artist}. "
    return f"{named}{set_line(drawing)}. Rendered to WebP."


def credits_page(drawings: Iterable[Drawing]) -> str:
    """CREDITS.md of a set of drawings: every source once, with its licence and the artists."""
    artists: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for drawing in drawings:
        key = (set_line(drawing), drawing.licence)
        artists[key][drawing.artist] = artists[key].get(drawing.artist, 0) + 1
    parts = [
        "# Credits\n",
        "Every drawing was rendered from SVG, cut to what is drawn and put on white; nothing else was changed. "
        "What is made from the drawings under CC BY-SA stays under CC BY-SA 4.0.\n",
    ]
    for (line, licence), people in sorted(artists.items()):
        names = ", ".join(f"{name} ({count})" for name, count in sorted(people.items(), key=lambda pair: -pair[1]))
        parts.append(f"- **{line}** ([{licence}]({LICENCES[licence]})): {names}")
    return "\n".join([*parts, "", EMOJIBASE, MICROSOFT])
