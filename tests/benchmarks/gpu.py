"""The model on a GPU: `python -m tests.benchmarks.gpu`, with torch and torchvision alone on a bare CUDA machine.

Images a second of the published full architecture (random weights, 512 px) by batch, precision, way of running
(eager, CUDA graph, compiled) and attention (PyTorch's own, flash-attn where installed), against the time that its
135.4 GFLOP an image take at the speed of a large matrix product measured in the same run; then end to end from
JPEG files, decoded by Pillow in threads and on the device. The last line is JSON. `--tiny --device cpu` only
tests the program.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tagger import attention
from tagger.architecture import Architecture
from tagger.jpeg import DeviceJpegs
from tagger.model import CamieTagger
from tagger.preprocess import Preprocess
from tests.benchmarks.stage import table

GFLOP = 135.4  # an image of 512 x 512, measured with torch's FlopCounter
TAGS = 70_527
BATCHES = (1, 8, 32, 128)
WAYS = ("eager", "graph", "compiled")
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
FULL = Architecture(TAGS)
TINY = Architecture(50, "efficientnet_tiny", 32, 48, 40, 56, 8, 4)

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Bench:
    device: torch.device
    architecture: Architecture
    size: int
    seconds: float

    def model(self, dtype: torch.dtype) -> CamieTagger:
        torch.manual_seed(0)
        with self.device:
            model = CamieTagger(self.architecture).eval().requires_grad_(False)
        return model.to(dtype=dtype, memory_format=torch.channels_last)

    def images(self, batch: int, dtype: torch.dtype) -> Tensor:
        images = torch.rand(batch, 3, self.size, self.size, device=self.device).to(dtype)
        return images.contiguous(memory_format=torch.channels_last)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rate(self, run: Callable[[], object], batch: int) -> float:
        """Images a second: the best of three stretches, so that another program's moment does not count."""
        for _ in range(3):
            run()
        self.wait()
        best = 0.0
        for _ in range(3):
            rounds, began = 0, time.perf_counter()
            while time.perf_counter() - began < self.seconds / 3 or rounds < 2:
                run()
                rounds += 1
                if rounds % 4 == 0:
                    self.wait()  # else thousands are queued before the clock is looked at
            self.wait()
            best = max(best, rounds * batch / (time.perf_counter() - began))
        return best


def matmul_tflops(bench: Bench, dtype: torch.dtype) -> float:
    """What the device does at its best: the product of two large square matrices."""
    side = 8192 if bench.device.type == "cuda" else 256
    a, b = (torch.randn(side, side, device=bench.device, dtype=dtype) for _ in range(2))
    return bench.rate(lambda: a @ b, 1) * 2 * side**3 / 1e12


def refined(model: CamieTagger) -> Run:
    def run(images: Tensor) -> Tensor:
        return torch.sigmoid(model(images)[1].float())

    return run


def prepared(way: str, model: CamieTagger, images: Tensor) -> Callable[[], object]:
    """A call that runs the model on these images in this way."""
    run = refined(model)
    if way == "compiled":
        # dynamic: by itself the compiler makes one slower function of the second size on
        compiled = torch.compile(run, mode="reduce-overhead" if images.is_cuda else "default", dynamic=False)
        return lambda: compiled(images)
    if way == "graph":
        return captured(run, images)
    return lambda: run(images)


def captured(run: Run, images: Tensor) -> Callable[[], object]:
    """The kernels recorded once, replayed without Python."""
    if not images.is_cuda:
        raise RuntimeError("Only CUDA has graphs.")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run(images)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run(images)
    return graph.replay


def attentions() -> list[str]:
    return ["torch", "flash-attn"] if attention.flash_installed() else ["torch"]


def choose_attention(name: str) -> None:
    """The model asks this function each time; here the answer is given."""
    attention.flash_installed = lambda: name == "flash-attn"


def model_rates(bench: Bench, batches: list[int], ways: list[str]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for dtype_name, dtype in DTYPES.items():
        peak, model = matmul_tflops(bench, dtype), bench.model(dtype)
        for kind in ATTENTIONS:
            choose_attention(kind)
            for way in ways:
                for batch in batches:
                    line = {"dtype": dtype_name, "attention": kind, "way": way, "batch": batch}
                    try:
                        with torch.inference_mode():
                            rate = bench.rate(prepared(way, model, bench.images(batch, dtype)), batch)
                    except Exception as error:  # a way that this machine can't go is a line of the table, too
                        found.append({**line, "failed": str(error).splitlines()[0][:60] if str(error) else repr(error)})
                        continue
                    roofline = peak * 1000 / GFLOP
                    found.append({**line, "images_per_s": round(rate, 1), "of_roofline": round(rate / roofline, 4)})
            torch.compiler.reset()
    return found


def jpegs(count: int, width: int, height: int) -> list[bytes]:
    """Different files of a photograph's unrest: coarse colours with noise."""
    rng, files = np.random.default_rng(0), []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 17, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def end_to_end(bench: Bench, batch: int, files: list[bytes], threads: int) -> dict[str, float]:
    """Images a second from JPEG files to scores on the host, the decode running ahead of the model; fp16, eager."""
    dtype = torch.float16 if bench.device.type == "cuda" else torch.float32
    choose_attention("torch")
    model, preprocess = bench.model(dtype), Preprocess(bench.size, pad_color=(0, 0, 0), alpha="drop")
    on_device = DeviceJpegs(preprocess, bench.device)

    def with_pillow(data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as image:
            return preprocess(image)

    def on_the_device(data: bytes) -> np.ndarray:
        pixels = on_device.prepare(data)
        if pixels is None:
            raise RuntimeError("torchvision did not decode on this device: is it built with nvJPEG?")
        return pixels

    found = {}
    for name, prepare in (("pillow", with_pillow), ("device", on_the_device)):
        try:
            found[f"from_jpeg_by_{name}_per_s"] = round(
                stream(bench, refined(model), dtype, prepare, files, batch, threads), 1
            )
        except RuntimeError as error:
            print(f"From JPEG by {name}: {error}")
    return found


@torch.inference_mode()
def stream(
    bench: Bench,
    run: Run,
    dtype: torch.dtype,
    prepare: Callable[[bytes], np.ndarray],
    files: list[bytes],
    batch: int,
    threads: int,
) -> float:
    """Threads prepare at most two batches ahead of the model."""
    with ThreadPoolExecutor(threads) as pool:
        ahead = [[pool.submit(prepare, files[i % len(files)]) for i in range(batch)] for _ in range(2)]
        done, began = 0, 0.0
        while not began or time.perf_counter() - began < bench.seconds or done < 2 * batch:
            pixels = np.stack([each.result() for each in ahead.pop(0)])
            ahead.append([pool.submit(prepare, files[i % len(files)]) for i in range(batch)])
            images = torch.from_numpy(pixels).to(bench.device, dtype).contiguous(memory_format=torch.channels_last)
            run(images).cpu()
            if began:
                done += batch
            else:
                began = time.perf_counter()  # the first batch warms up
        return done / (time.perf_counter() - began)


ATTENTIONS = attentions()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=3.0, help="of measuring for each figure")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="that decode")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, only to test this program")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device: run this on a machine that has one, or --tiny --device cpu.")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # graphs are recorded on the current one
    bench = Bench(device, TINY if options.tiny else FULL, 64 if options.tiny else 512, options.seconds)
    rates = model_rates(bench, options.batches, options.ways)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    rows = [
        [*list(row.values())[:4], row.get("images_per_s", row.get("failed")), row.get("of_roofline", "")]
        for row in rates
    ]
    table(f"{name}, torch {torch.__version__}", ("dtype", "attention", "way", "batch", "images/s", "of roofline"), rows)
    side = (145, 205) if options.tiny else (1448, 2048)
    batch = min(32, max(options.batches))
    whole = end_to_end(bench, batch, jpegs(4 if options.tiny else 64, *side), options.threads)
    table(f"From {side[0]} x {side[1]} JPEGs, batch {batch}, images/s", ("decoder", "images/s"), list(whole.items()))
    print(json.dumps({"device": name, "tiny": options.tiny, "model": rates, **whole}))


if __name__ == "__main__":
    main()
