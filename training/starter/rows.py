"""One drawing of the starter's data, as a row of the dataset folder (columns: see training/dataset.py)."""

import hashlib
from io import BytesIO

from PIL import Image

CATEGORIES = ("general", "artist", "copyright", "character", "meta", "year")


def row(
    image: Image.Image,
    tags: dict[str, list[str]],
    *,
    group: str,
    family: str,
    source: str,
    artist_credit: str,
    licence: str,
) -> dict[str, object]:
    """The dataset row of one drawing whose tags are complete.

    `group` is the subject (the unit of splitting), `family` the art source. There is no rating: none of the
    packages carries one, and one made up from keywords would be no data.
    """
    encoded = BytesIO()
    image.save(encoded, "PNG")
    data = encoded.getvalue()
    md5 = hashlib.md5(data).hexdigest()
    columns = {f"tags_{category}": sorted(set(tags.get(category, []))) for category in CATEGORIES}
    years = columns["tags_year"]
    return {
        "image": {"bytes": data, "path": f"{md5}.png"},
        "md5": md5,
        **columns,
        "rating": None,
        "year": int(years[0].removeprefix("year_")) if years else None,
        "verified": [],
        "rejected": [],
        "complete": True,
        "predicted_tags": [],
        "predicted_confidences": [],
        "release": None,
        "width": image.width,
        "height": image.height,
        "group": group,
        "family": family,
        "source": source,
        "artist_credit": artist_credit,
        "licence": licence,
    }
