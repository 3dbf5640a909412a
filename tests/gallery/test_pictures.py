import io
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gallery import pictures
from gallery.models import THUMBNAIL_SIZES
from gallery.pictures import BadPicture


def scene(width: int, height: int, mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.1, height * 0.1, width * 0.6, height * 0.7), fill="red")
    draw.rectangle((width * 0.5, height * 0.6, width * 0.9, height * 0.95), fill="navy")
    return image


def file_of(image: Image.Image, kind: str = "PNG", **options) -> io.BytesIO:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out


def frames(count: int, size: int = 40) -> list[Image.Image]:
    return [scene(size, size).rotate(index * 30, fillcolor="white") for index in range(count)]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_each_format_is_known_by_its_bytes(kind):
    picture = pictures.inspect(file_of(scene(60, 40), kind), THUMBNAIL_SIZES)
    assert picture.ext == {"JPEG": "jpg"}.get(kind, kind.lower())
    assert (picture.width, picture.height, picture.animated) == (60, 40, False)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF", "PNG"])
def test_animations_are_seen_and_shown_by_their_first_frame(kind):
    first, *rest = frames(3)
    file = file_of(first, kind, save_all=True, append_images=rest, duration=100)
    picture = pictures.inspect(file, (360,))
    assert picture.animated
    still = Image.open(io.BytesIO(picture.thumbnails[360]))
    assert still.size == (40, 40)
    assert not getattr(still, "is_animated", False)


def test_thumbnails_fit_and_never_grow():
    large = pictures.inspect(file_of(scene(2000, 1000), "JPEG"), THUMBNAIL_SIZES).thumbnails
    assert [Image.open(io.BytesIO(large[size])).size for size in (360, 850)] == [(360, 180), (850, 425)]
    small = pictures.inspect(file_of(scene(100, 50)), THUMBNAIL_SIZES).thumbnails
    assert Image.open(io.BytesIO(small[850])).size == (100, 50)
    thin = pictures.inspect(file_of(scene(1, 3000)), THUMBNAIL_SIZES).thumbnails
    assert Image.open(io.BytesIO(thin[360])).size == (1, 360)


def test_exif_orientation_is_honoured():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to display
    picture = pictures.inspect(file_of(scene(80, 40), "JPEG", exif=exif, quality=95), (360,))
    assert (picture.width, picture.height) == (40, 80)
    shown = Image.open(io.BytesIO(picture.thumbnails[360]))
    assert shown.size == (40, 80)
    expected = np.asarray(scene(80, 40).transpose(Image.Transpose.ROTATE_270), np.int16)
    assert np.abs(np.asarray(shown.convert("RGB"), np.int16) - expected).mean() < 12


def test_alpha_stays_and_grey_and_cmyk_become_colour():
    clear = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
    for image, mode in [(clear, "RGBA"), (clear.convert("P"), "RGBA"), (scene(50, 50).convert("L"), "RGB")]:
        thumbnail = Image.open(io.BytesIO(pictures.inspect(file_of(image), (360,)).thumbnails[360]))
        assert thumbnail.mode == mode
    cmyk = file_of(scene(50, 50).convert("CMYK"), "JPEG")
    assert Image.open(io.BytesIO(pictures.inspect(cmyk, (360,)).thumbnails[360])).mode == "RGB"


def test_sixteen_bit_grey_keeps_its_greys():
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(8, 0)
    picture = pictures.inspect(file_of(Image.fromarray(ramp)), (360,))
    shown = np.asarray(Image.open(io.BytesIO(picture.thumbnails[360])).convert("L"), np.int16)
    assert np.abs(shown[4] - ramp[4] // 256).max() < 12


def test_perceptual_hash_knows_a_picture_again():
    def bits(a: int, b: int) -> int:
        return ((a ^ b) & (2**64 - 1)).bit_count()

    image = scene(640, 480)
    original = pictures.inspect(file_of(image), (360,)).perceptual_hash
    smaller = pictures.inspect(file_of(image.resize((200, 150)), "JPEG", quality=60), (360,)).perceptual_hash
    other = pictures.inspect(file_of(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), (360,)).perceptual_hash
    assert -(2**63) <= original < 2**63
    assert bits(original, smaller) <= 6 < 15 <= bits(original, other)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_a_cut_file_is_refused(kind):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8))
    data = file_of(noise, kind).getvalue()
    with pytest.raises(BadPicture, match="damaged|not a picture"):
        pictures.inspect(io.BytesIO(data[: len(data) * 2 // 3]), (360,))


def test_an_animation_cut_in_its_last_frame_is_refused():
    noise = np.random.default_rng(1).integers(0, 255, (4, 64, 64, 3), np.uint8)
    first, *rest = [Image.fromarray(frame) for frame in noise]
    data = file_of(first, "GIF", save_all=True, append_images=rest).getvalue()
    with pytest.raises(BadPicture, match="damaged"):
        pictures.inspect(io.BytesIO(data[:-800]), (360,))


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n", b"GIF89a"],
)
def test_fake_files_are_refused(data):
    with pytest.raises(BadPicture):
        pictures.inspect(io.BytesIO(data), (360,))


def test_a_tiff_is_a_picture_but_not_one_of_ours():
    with pytest.raises(BadPicture, match="send a JPEG"):
        pictures.inspect(file_of(scene(9, 9), "TIFF"), (360,))


def test_bombs_are_refused_before_they_are_decoded(settings):
    settings.UPLOAD_MAX_MEGAPIXELS = 1
    for width in (1100, 3000):  # a little too large; so large that Pillow itself refuses
        with pytest.raises(BadPicture, match="smaller than 1 megapixels"):
            pictures.inspect(file_of(Image.new("1", (width, width))), (360,))


def test_animations_have_a_limit_of_frames_times_pixels(settings):
    settings.UPLOAD_MAX_ANIMATION_MEGAPIXELS = 1
    first, *rest = frames(4, size=600)
    file = file_of(first, "GIF", save_all=True, append_images=rest)
    with pytest.raises(BadPicture, match="more than 2 frames of 600 x 600"):
        pictures.inspect(file, (360,))


def test_a_gif_of_countless_tiny_frames_is_given_up_early(settings):
    settings.UPLOAD_MAX_ANIMATION_MEGAPIXELS = 10
    head = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    frame = b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00"
    file = io.BytesIO(head + frame * 200_000 + b";")
    with pytest.raises(BadPicture, match="more than 100 frames"):
        pictures.inspect(file)
    assert file.tell() < 10_000


def test_large_pictures_wait_for_each_other():
    room, inside, most = pictures.Room(100), [], []

    def decode(megapixels):
        with room(megapixels):
            inside.append(megapixels)
            most.append(sum(inside))
            time.sleep(0.02)
            inside.remove(megapixels)

    with ThreadPoolExecutor(8) as threads:
        for wanted in (60, 60, 30, 30, 500, 10, 90, 5):
            threads.submit(decode, wanted)
    # One that is larger than all the room was let in, and alone.
    assert len(most) == 8 and all(much <= 100 or much == 500 for much in most)


def test_a_picture_that_breaks_leaves_its_room(monkeypatch):
    monkeypatch.setattr(pictures, "_room", pictures.Room(0.001))
    broken = file_of(Image.effect_noise((64, 64), 80), "JPEG").getvalue()
    for _ in range(2):
        with pytest.raises(BadPicture):
            pictures.inspect(io.BytesIO(broken[: len(broken) // 2]))
    assert pictures._room.taken == 0
