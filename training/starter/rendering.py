"""Draws SVG as pictures: resvg first, rsvg-convert for what resvg refuses (mostly undeclared namespaces)."""

import subprocess
from io import BytesIO

import resvg_py
from PIL import Image

MARGIN = 0.03  # white kept around the drawing, as a share of its longer side


class RenderError(ValueError):
    """Neither renderer could draw this file."""


def render(svg: str, pixels: int) -> Image.Image:
    """The drawing as RGBA, its width `pixels`; raises RenderError."""
    try:
        data = resvg_py.svg_to_bytes(svg_string=svg, width=pixels)
    except (ValueError, RuntimeError):
        data = _rsvg(svg, pixels)
    try:
        return Image.open(BytesIO(data)).convert("RGBA")
    except OSError as error:
        raise RenderError(f"The drawn picture cannot be read: {error}") from error


def _rsvg(svg: str, pixels: int) -> bytes:
    command = ["rsvg-convert", "--width", str(pixels), "--height", str(pixels), "--keep-aspect-ratio"]
    try:
        done = subprocess.run(command, input=svg.encode(), capture_output=True, timeout=20)
    except FileNotFoundError as error:
        raise RenderError("rsvg-convert is missing; install the package librsvg2-bin.") from error
    except subprocess.TimeoutExpired as error:
        raise RenderError("rsvg-convert took longer than 20 seconds.") from error
    if done.returncode != 0 or not done.stdout:
        raise RenderError(done.stderr.decode(errors="replace").strip() or "rsvg-convert drew nothing.")
    return done.stdout


def fit(image: Image.Image, size: int) -> Image.Image:
    """Cut `image` (RGBA) to what is drawn, put it on white and bring its longer side down to `size` pixels.

    Raises RenderError for a drawing that is empty, a few pixels, or a sliver.
    """
    box = image.getchannel("A").point(lambda alpha: 255 if alpha > 8 else 0).getbbox()
    if box is None:
        raise RenderError("The drawing is empty.")
    width, height = box[2] - box[0], box[3] - box[1]
    if max(width, height) < 16 or max(width, height) > 8 * min(width, height):
        raise RenderError("The drawing is only a few pixels or a sliver.")
    margin = round(MARGIN * max(width, height))
    page = Image.new("RGB", (width + 2 * margin, height + 2 * margin), "white")
    drawn = image.crop(box)
    page.paste(drawn, (margin, margin), drawn)
    page.thumbnail((size, size), Image.Resampling.LANCZOS)
    return page
