"""A drawing not drawn yet: its SVG layers and what is known of it. Drawing happens in several processes."""

from dataclasses import dataclass

from PIL import Image

from training.starter.rendering import fit, render
from training.starter.rows import row


@dataclass(frozen=True)
class Drawing:
    """SVG layers of one size, bottom first, with the columns of the row that comes of them."""

    layers: tuple[str, ...]
    tags: dict[str, list[str]]
    group: str
    family: str
    source: str
    artist: str
    licence: str

    def picture(self, size: int) -> Image.Image:
        """The picture on white, longer side `size` pixels; raises RenderError."""
        page = render(self.layers[0], 2 * size)
        for layer in self.layers[1:]:
            drawn = render(layer, 2 * size)
            page.alpha_composite(drawn.resize(page.size) if drawn.size != page.size else drawn)
        return fit(page, size)

    def row(self, size: int) -> dict[str, object]:
        """The dataset row; raises RenderError."""
        return row(
            self.picture(size),
            self.tags,
            group=self.group,
            family=self.family,
            source=self.source,
            artist_credit=self.artist,
            licence=self.licence,
        )
