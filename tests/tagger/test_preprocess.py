import numpy as np
import pytest
from PIL import Image

from tagger.descriptor import Descriptor
from tagger.importing import camie_v1, published
from tagger.preprocess import Preprocess, PreprocessError

CAMIE = Preprocess(64, pad_color=(0, 0, 0), alpha="drop")
RED = (255, 0, 0)


def gradient(width: int, height: int) -> Image.Image:
    across = np.linspace(0, 255, width)[None, :, None]
    down = np.linspace(0, 255, height)[:, None, None]
    return Image.fromarray(np.broadcast_to((across + down) / 2, (height, width, 3)).astype(np.uint8))


@pytest.mark.parametrize(
    ("size", "inside"),
    [
        ((64, 64), (64, 64)),
        ((100, 37), (64, 23)),
        ((37, 100), (23, 64)),
        ((3, 2), (64, 42)),
        ((1, 1), (64, 64)),
        ((1, 1000), (1, 64)),
        ((1000, 1), (64, 1)),
    ],
)
def test_letterbox_keeps_the_aspect_and_truncates_the_short_side(
    size: tuple[int, int], inside: tuple[int, int]
) -> None:
    assert CAMIE.inner_size(*size) == inside
    pixels = CAMIE(Image.new("RGB", size, RED))
    assert pixels.shape == (3, 64, 64)
    assert pixels.dtype == np.float32
    top, left = (64 - inside[1]) // 2, (64 - inside[0]) // 2
    expected = np.zeros((3, 64, 64), dtype=np.float32)
    expected[0, top : top + inside[1], left : left + inside[0]] = 1
    np.testing.assert_array_equal(pixels, expected)


def test_letterbox_against_the_published_steps() -> None:
    image = gradient(90, 55)
    resized = image.resize((64, int(64 / (90 / 55))), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (64, 64), (0, 0, 0))
    canvas.paste(resized, (0, (64 - resized.height) // 2))
    expected = np.asarray(canvas).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(CAMIE(image), expected, atol=1e-6)


CAMIE_V1 = Preprocess.from_config(camie_v1.PREPROCESS)
CAMIE_V2 = Descriptor.from_config(published.CAMIE_V2.descriptor)


def camie_picture(image: Image.Image, pad: tuple[int, int, int]) -> np.ndarray:
    """Steps of the published code, v1 and v2 alike: uint8 [512, 512, 3]."""
    image = image.convert("RGB")
    width, height = image.size
    aspect = width / height
    if aspect > 1:
        new_width, new_height = 512, int(512 / aspect)
    else:
        new_height, new_width = 512, int(512 * aspect)
    image = image.resize((max(1, new_width), max(1, new_height)), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (512, 512), pad)
    canvas.paste(image, ((512 - image.width) // 2, (512 - image.height) // 2))
    return np.asarray(canvas)


def noise(width: int, height: int, mode: str) -> Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 4), dtype=np.uint8)
    if mode == "P":
        return Image.fromarray(pixels[..., :3]).quantize(17)
    image = Image.fromarray(pixels, "RGBA")
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "CMYK", "1"])
@pytest.mark.parametrize("size", [(513, 512), (1023, 301), (37, 101), (1, 1), (1, 700), (700, 1), (512, 512)])
def test_camie_pictures_are_the_published_ones_to_the_pixel(size: tuple[int, int], mode: str) -> None:
    image = noise(*size, mode)
    first = CAMIE_V1(image)
    expected = camie_picture(image, (0, 0, 0)).transpose(2, 0, 1)
    np.testing.assert_array_equal(np.rint(first * 255).astype(np.uint8), expected)
    np.testing.assert_allclose(first, expected / 255, atol=1e-7)
    second = CAMIE_V2.prepare(image)
    expected = camie_picture(image, (124, 116, 104)) / 255
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(second, ((expected - mean) / std).transpose(2, 0, 1), atol=1e-6)


def test_sixteen_bits_look_as_their_eight_bit_copy() -> None:
    grey = np.asarray(noise(61, 43, "L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(CAMIE_V1(deep), CAMIE_V1(Image.fromarray(grey)))


def test_square_pads_before_it_resizes() -> None:
    image = noise(91, 60, "RGB")
    canvas = Image.new("RGB", (91, 91), (255, 255, 255))
    canvas.paste(image, (0, 15))
    expected = canvas.resize((64, 64), Image.Resampling.BICUBIC)
    square = Preprocess(64, geometry="square", filter="bicubic")
    np.testing.assert_array_equal(np.rint(square(image) * 255), np.asarray(expected).transpose(2, 0, 1))
    assert square(Image.new("RGB", (1, 20_000))).shape == (3, 64, 64)  # without a square of 400 million pixels


def test_stretch_fills_the_square_and_filters_differ() -> None:
    image = gradient(90, 20)
    stretched = Preprocess(32, geometry="stretch", filter="bilinear")(image)
    expected = image.resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(stretched, np.asarray(expected).transpose(2, 0, 1) / 255, atol=1e-6)


def test_mean_and_std_are_of_the_zero_to_one_scale() -> None:
    lite0 = Preprocess(32, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    pixels = lite0(Image.new("RGB", (32, 32), (0, 127, 255)))
    np.testing.assert_allclose(pixels[:, 0, 0], [-127 / 128, 0, 1], atol=1e-6)


def palette_with_transparency() -> Image.Image:
    image = Image.new("P", (64, 64), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.info["transparency"] = 1
    return image


SEE_THROUGH = {
    "RGBA": Image.new("RGBA", (64, 64), (*RED, 0)),
    "LA": Image.new("LA", (64, 64), (76, 0)),
    "P": palette_with_transparency(),
}


@pytest.mark.parametrize("mode", SEE_THROUGH)
def test_transparency_is_dropped_or_laid_on_the_pad_colour(mode: str) -> None:
    image = SEE_THROUGH[mode]
    composited = Preprocess(64, pad_color=(0, 255, 0), alpha="composite")(image)
    np.testing.assert_array_equal(composited[:, 5, 5], [0, 1, 0])
    dropped = Preprocess(64, pad_color=(0, 255, 0), alpha="drop")(image)
    expected = [76 / 255] * 3 if mode == "LA" else [1, 0, 0]
    np.testing.assert_allclose(dropped[:, 5, 5], expected, atol=1e-6)


def test_half_transparent_mixes_with_the_pad_colour() -> None:
    pixels = Preprocess(64, pad_color=(0, 0, 0))(Image.new("RGBA", (64, 64), (255, 255, 255, 128)))
    np.testing.assert_allclose(pixels, 128 / 255, atol=0.005)


@pytest.mark.parametrize(
    ("image", "grey"),
    [
        (Image.new("1", (64, 64), 1), 255),
        (Image.new("L", (64, 64), 100), 100),
        (Image.fromarray(np.full((64, 64), 100 * 257, dtype=np.uint16)), 100),
        (Image.fromarray(np.full((64, 64), 100 * 257, dtype=np.int32)), 100),
        (Image.fromarray(np.full((64, 64), 100, dtype=np.int32)), 100),
        (Image.fromarray(np.full((64, 64), 0.4, dtype=np.float32)), 102),
        (Image.fromarray(np.full((64, 64), np.nan, dtype=np.float32)), 0),
        (Image.new("CMYK", (64, 64), (0, 0, 0, 155)), 100),
    ],
    ids=["1 bit", "grey", "16 bit", "32 bit of 16", "32 bit of 8", "float", "not a number", "cmyk"],
)
def test_every_mode_becomes_the_grey_it_shows(image: Image.Image, grey: int) -> None:
    pixels = CAMIE(image)
    np.testing.assert_allclose(pixels, grey / 255, atol=0.003)


def test_config_round_trip_and_bad_values() -> None:
    preprocess = Preprocess(128, mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    config = preprocess.to_config()
    assert config["pad_color"] == [255, 255, 255]
    assert Preprocess.from_config(config) == preprocess
    bad = [
        ({"size": 0}, "at least 8"),
        ({"size": 64.0}, "whole number"),
        ({"geometry": "crop"}, "letterbox or square or stretch"),
        ({"filter": "nearest"}, "lanczos or bicubic or bilinear"),
        ({"alpha": "keep"}, "drop or composite"),
        ({"pad_color": [0, 0]}, "three numbers"),
        ({"pad_color": [0, 0, 300]}, "0 to 255"),
        ({"mean": None}, "both"),
        ({"std": [0, 1, 1]}, "not be 0"),
        ({"flip": True}, "unknown settings: flip"),
    ]
    for change, words in bad:
        with pytest.raises(PreprocessError, match=words):
            Preprocess.from_config(config | change)
    with pytest.raises(PreprocessError, match="lacks its size"):
        Preprocess.from_config({})
