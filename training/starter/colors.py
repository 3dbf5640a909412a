"""Names for the colours drawn, as booru tags say them."""

import colorsys

HUES = ((14, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (262, "blue"), (300, "purple"), (346, "pink"))


def color_name(code: str) -> str:
    """`#rrggbb` as one of black, grey, white, brown, red, orange, yellow, green, blue, purple, pink."""
    red, green, blue = (int(code[at : at + 2], 16) / 255 for at in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    degrees = hue * 360
    if lightness < 0.14:
        return "black"
    if lightness > 0.93:
        return "white"
    if saturation < 0.16:
        return "black" if lightness < 0.22 else "grey"
    if lightness < 0.5 and (degrees < 42 or degrees > 350) and saturation < 0.75:
        return "brown"
    if degrees > 330 and lightness < 0.55:
        return "red"
    if degrees < 14 and lightness > 0.72:
        return "pink"
    return next((name for limit, name in HUES if degrees < limit), "red")


def hair_color(code: str) -> str:
    """The hair tag of a colour: yellow and pale orange hair is blonde."""
    name = color_name(code)
    red, green, blue = (int(code[at : at + 2], 16) for at in (1, 3, 5))
    if name in ("yellow", "orange", "brown") and red > 170 and green > 140 and red > blue:
        name = "blonde"
    elif name == "orange" and red < 150:
        name = "brown"
    return f"{name}_hair"


def is_dark(code: str) -> bool:
    """Whether a skin colour is dark enough for the tag dark_skin."""
    red, green, blue = (int(code[at : at + 2], 16) for at in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 118
