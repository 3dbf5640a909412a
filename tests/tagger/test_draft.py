"""Large JPEGs are decoded smaller only where training did so, or in fast mode."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tagger import drafted
from tagger.inference import Predictor
from tagger.preprocess import FILTERS, Preprocess
from tests.tagger import releases
from training.config import Data
from training.feeding import pictures


def jpeg(width: int, height: int, orientation: int = 1, form: str = "JPEG") -> bytes:
    """A smooth picture with some structure."""
    across, down = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 7, height))
    waves = np.stack([np.sin(across), np.cos(down * 2), np.sin(across + down)], axis=2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray((127 * (waves + 1)).astype(np.uint8)).save(file, form, quality=92, exif=exif)
    return file.getvalue()


def prepared(preprocess: Preprocess, data: bytes, draft: bool) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        if draft:
            preprocess.draft(image)
        return preprocess(ImageOps.exif_transpose(image))


@pytest.mark.parametrize(
    ("size", "side", "decoded"),
    [
        ((2048, 1448), 512, (1024, 724)),
        ((2047, 1448), 512, (2047, 1448)),
        ((3508, 2481), 512, (877, 621)),
        ((3071, 2481), 512, (1536, 1241)),
        ((4097, 2049), 512, (1025, 513)),
        ((2048, 1001), 128, (256, 126)),
        ((2048, 3), 128, (1024, 2)),
        ((2100, 2000), 700, (1050, 1000)),
        ((2099, 2000), 700, (2099, 2000)),
    ],
)
def test_the_long_side_stays_larger_than_the_input(size: tuple[int, int], side: int, decoded: tuple[int, int]) -> None:
    with Image.open(io.BytesIO(jpeg(*size))) as image:
        Preprocess(side).draft(image)
        assert image.size == decoded


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("geometry", ["letterbox", "stretch"])
def test_the_picture_lies_where_it_lay(geometry: str, orientation: int) -> None:
    preprocess = Preprocess(128, geometry=geometry, pad_color=(0, 0, 0), alpha="drop")
    data = jpeg(2100, 1213, orientation)
    whole, drafted = (prepared(preprocess, data, draft) * 255 for draft in (False, True))
    assert whole.shape == drafted.shape
    difference = np.abs(whole - drafted)
    assert 0 < difference.mean() < (1.5 if orientation > 1 else 0.6)
    if geometry == "letterbox":  # its edge is where it was
        assert ((whole.max(axis=0) > 20).any(axis=0) == (drafted.max(axis=0) > 20).any(axis=0)).all()


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(
    ("size", "wanted", "part"),
    [
        ((724, 1024), (362, 512), (724, 1024)),
        ((607, 1050), (74, 128), (606.5, 1050)),
        ((877, 621), (512, 362), (877, 620.25)),
        ((1024, 2), (128, 1), (1024, 1.5)),
        ((300, 200), (64, 42), (300, 200)),
    ],
)
def test_a_drafted_picture_is_resized_as_pillow_does(
    name: str, size: tuple[int, int], wanted: tuple[int, int], part: tuple[float, float]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    found = np.asarray(drafted.resize(image, wanted, name, part)).astype(int)
    apart = np.abs(found - np.asarray(image.resize(wanted, FILTERS[name], (0, 0, *part))))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.01


def test_other_files_stay_whole() -> None:
    with Image.open(io.BytesIO(jpeg(2100, 1213, form="WEBP"))) as image:
        Preprocess(128).draft(image)
        assert image.size == (2100, 1213)
    Preprocess(128).draft(Image.new("RGB", (3000, 3000)))
    with Image.open(io.BytesIO(jpeg(2100, 1213))) as image:
        Preprocess(128, geometry="square").draft(image)
        assert image.size == (2100, 1213)


def test_exact_mode_decodes_as_training_did(tmp_path: Path) -> None:
    data = jpeg(2400, 1600)
    own = {"size": 64, "large_jpeg": "draft"}
    releases.write(tmp_path / "old")
    releases.write(tmp_path / "new", config={"preprocess": own})
    found = {}
    for folder, mode in (("old", "exact"), ("old", "fast"), ("new", "exact")):
        with Image.open(io.BytesIO(data)) as image:
            Predictor(tmp_path / folder, "cpu", mode=mode).draft(image)
            found[folder, mode] = image.size
    assert found == {("old", "exact"): (2400, 1600), ("old", "fast"): (300, 200), ("new", "exact"): (300, 200)}


def test_training_sees_what_use_sees() -> None:
    data = jpeg(2400, 1600)
    drafting = Data(size=64).preprocess()
    assert drafting.large_jpeg == "draft"
    assert drafting.to_config()["large_jpeg"] == "draft"
    seen = pictures.canvas(data, drafting)
    with Image.open(io.BytesIO(data)) as image:
        drafting.draft(image)
        used = drafting.place(drafting.opaque(image))
    np.testing.assert_array_equal(seen, np.asarray(used))
    whole = pictures.canvas(data, Data(size=64, large_jpeg="whole").preprocess())
    assert (whole != seen).any()
