import io

import numpy as np
import pytest
import torch
from PIL import Image

from tagger import fast
from tagger.inference import Predictor
from tagger.jpeg import DeviceJpegs, is_plain, open_decoder, resize
from tagger.preprocess import FILTERS, Preprocess
from tests.tagger import releases

CPU = torch.device("cpu")


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width * height)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 5, 3), dtype=np.uint8))
    noise = rng.integers(0, 60, (height, width, 3))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) * 0.75
    return Image.fromarray((smooth + noise).astype(np.uint8)).convert(mode)


def jpeg(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("size", "wanted"), [((301, 97), (64, 20)), ((40, 50), (64, 64)), ((33, 64), (64, 64))])
def test_resizing_is_pillows_to_one_step(name, size, wanted):
    image = picture(*size)
    expected = np.asarray(image.resize(wanted, FILTERS[name])).astype(int)
    found = resize(torch.from_numpy(np.array(image)).permute(2, 0, 1), *wanted, name)
    difference = np.abs(found.permute(1, 2, 0).numpy() - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(64),
        Preprocess(64, filter="bicubic", pad_color=(0, 10, 200), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        Preprocess(48, geometry="stretch", filter="bilinear"),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_same_as_preprocessing_with_pillow(preprocess, mode):
    for size in ((200, 131), (61, 300), (64, 64)):
        data = jpeg(picture(*size, mode), progressive=size[0] == 200)
        found = DeviceJpegs(preprocess, CPU).prepare(data)
        expected = preprocess(Image.open(io.BytesIO(data)))
        assert found.dtype == np.float32
        steps = np.abs(found - expected) * 255 * (min(preprocess.std) if preprocess.std else 1)
        assert steps.mean() < 0.5


def test_what_pillow_must_do_is_left_to_it():
    turned = Image.Exif()
    turned[0x0112] = 6
    upright = jpeg(picture(30, 20))
    assert is_plain(upright, Preprocess(64))
    for data in (jpeg(picture(30, 20), exif=turned), jpeg(picture(30, 20, "CMYK")), b"no picture"):
        assert DeviceJpegs(Preprocess(64), CPU).prepare(data) is None
    assert DeviceJpegs(Preprocess(64), CPU).prepare(upright[:300]) is None
    assert DeviceJpegs(Preprocess(64, geometry="square"), CPU).prepare(upright) is None


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (RuntimeError("nvjpegDecode failed: NVJPEG_STATUS_JPEG_NOT_SUPPORTED"), 2),  # of one picture
        (RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support"), 1),
        (AttributeError("'_OpNamespace' 'image' object has no attribute 'decode_jpegs_cuda'"), 1),
    ],
)
def test_a_decoder_that_fails_leaves_it_to_pillow(error, tries):
    decoder, tried = DeviceJpegs(Preprocess(64), CPU), []

    def decode(encoded, **options):
        tried.append(encoded)
        raise error

    decoder._decode = decode
    assert [decoder.prepare(jpeg(picture(30, 20))) for _ in range(2)] == [None, None]
    assert len(tried) == tries


def test_a_processor_is_left_to_pillow(tmp_path):
    assert open_decoder(Preprocess(64), CPU) is None
    releases.write(tmp_path / "one")
    assert Predictor(tmp_path / "one", "cpu").prepare_jpeg(io.BytesIO(jpeg(picture(30, 20)))) is None


def test_what_training_drafted_is_left_to_pillow():
    large, small = jpeg(picture(2400, 1600)), jpeg(picture(1200, 800))
    for rule, expected in (("whole", True), ("draft", False)):
        decoder = DeviceJpegs(Preprocess(64, large_jpeg=rule), CPU)
        assert (decoder.prepare(large) is not None) == expected
        assert decoder.prepare(small) is not None


def test_exact_mode_takes_pillow_s_pixels_and_the_check_sees_what_fast_mode_takes(tmp_path, monkeypatch):
    """As on a GPU, with a decoder of its own, which here sees every picture as a black one."""
    decoded = []

    class Dark(DeviceJpegs):
        def prepare(self, data):
            decoded.append(data)
            return np.zeros_like(super().prepare(data))

    monkeypatch.setattr("tagger.jpeg.open_decoder", Dark)
    releases.write(tmp_path / "one")
    images = [picture(300, 200), picture(200, 301)]
    files = [jpeg(image) for image in images]
    predictor = Predictor(tmp_path / "one", "cpu")
    assert predictor.prepare_jpeg(io.BytesIO(files[0])) is None
    np.testing.assert_array_equal(predictor.prepare_file(files[0]), predictor.prepare(Image.open(io.BytesIO(files[0]))))
    gate = fast.check(tmp_path / "one", files, "cpu", anyway=True)
    assert decoded == files
    assert (gate.pictures, gate.engine) == (2, "torch bf16")
    fast.check(tmp_path / "one", images, "cpu", anyway=True)
    assert len(decoded) == 4
