"""Runs another project's ONNX tagger by its descriptor, with onnxruntime or, where installed, OpenVINO."""

import importlib.util
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from tagger.descriptor import Descriptor
from tagger.release import ReleaseError, ReleaseFolder

PIXELS_A_PASS = {"cpu": 4 * 512 * 512, "cuda": 32 * 512 * 512}  # batches gain little on a CPU
FATAL = 4  # onnxruntime's severity: what matters comes as an exception


class Session(Protocol):
    """A loaded model: where its input and outputs are, and one pass."""

    input_shape: list[Any]
    outputs: list[str]

    def run(self, pixels: np.ndarray, output: int) -> np.ndarray: ...


class OnnxEngine:
    def __init__(self, release: ReleaseFolder, device: str, threads: int, runtime: str, mode: str = "exact") -> None:
        if release.descriptor is None:
            raise ReleaseError(f"The release {release.name} has no descriptor; it is not an ONNX model.")
        self.release = release
        self.descriptor: Descriptor = release.descriptor
        self.stage = "refined"
        self.activation = self.descriptor.output.activation
        self.device = choose_device(device, runtime)
        self.title = f"{runtime} fp32{' (CUDA)' if self.device == 'cuda' else ''}"
        if mode == "fast" and runtime != "openvino":
            raise ReleaseError(f"The release {release.name} is fast only with OpenVINO; choose exact or openvino.")
        source = release.weights_file, self.descriptor.input_name
        if runtime == "openvino":
            self.session: Session = OpenVinoSession(*source, threads, "bf16" if mode == "fast" else "f32")
            self.title = f"openvino {'bf16' if mode == 'fast' else 'fp32'}"
        else:
            self.session = OnnxSession(*source, self.device, threads)
        self.output = self._output()
        self.fixed_batch = self._check_input()
        limit = max(1, PIXELS_A_PASS[self.device] // self.descriptor.preprocess.size**2)
        self.batch_size = self.fixed_batch or limit

    def prepare(self, image: Image.Image) -> np.ndarray:
        """float32 [3, S, S] or [S, S, 3], as the model takes it"""
        return self.descriptor.prepare(image)

    def scores(self, pixels: np.ndarray) -> tuple[np.ndarray, None]:
        """A stack of prepared pictures -> every tag's score as the model gives it, float32 [B, tags]"""
        count = len(pixels)
        if self.fixed_batch and count < self.fixed_batch:
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], self.fixed_batch - count, axis=0)])
        scores = self.session.run(pixels, self.output)
        expected = (len(pixels), len(self.release.vocabulary))
        if scores.shape != expected:
            raise ReleaseError(
                f"The output {self.session.outputs[self.output]} of {self.release.name} is of shape {scores.shape},"
                f" not {expected}; choose another output in its descriptor."
            )
        return np.asarray(scores[:count], dtype=np.float32), None

    def _output(self) -> int:
        wanted, names = self.descriptor.output, self.session.outputs
        if wanted.name is not None:
            if wanted.name not in names:
                raise ReleaseError(
                    f"The model of {self.release.name} has no output {wanted.name}; it has {', '.join(names)}."
                )
            return names.index(wanted.name)
        if wanted.index >= len(names):
            raise ReleaseError(
                f"The model of {self.release.name} has {len(names)} outputs, none at index {wanted.index}:"
                f" {', '.join(names)}."
            )
        return wanted.index

    def _check_input(self) -> int | None:
        """The number of pictures that the model always wants at once, if it does. Raises ReleaseError."""
        batch, *shape = self.session.input_shape
        wanted = self.descriptor.picture_shape
        fits = len(shape) == 3 and all(
            not isinstance(there, int) or there == size for there, size in zip(shape, wanted, strict=True)
        )
        if not fits:
            raise ReleaseError(
                f"The model of {self.release.name} takes pictures of shape {tuple(shape)}, but its descriptor"
                f" makes {wanted}; correct the descriptor's layout and size."
            )
        return batch if isinstance(batch, int) and batch > 0 else None


class OnnxSession:
    def __init__(self, file: Path, input_name: str | None, device: str, threads: int) -> None:
        onnxruntime = _installed("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = FATAL
        # Waiting threads otherwise burn the cores that decode the next pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CUDAExecutionProvider"] if device == "cuda" else []
        try:
            self.session = onnxruntime.InferenceSession(file, options, [*providers, "CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common class
            raise ReleaseError(f"The model {file} cannot be opened ({error}); copy the release again.") from error
        inputs = {one.name: one for one in self.session.get_inputs()}
        self.input = input_name or next(iter(inputs))
        if self.input not in inputs:
            raise ReleaseError(f"The model {file} has no input {self.input}; it has {', '.join(inputs)}.")
        self.input_shape = [size if isinstance(size, int) else None for size in inputs[self.input].shape]
        self.outputs = [one.name for one in self.session.get_outputs()]

    def run(self, pixels: np.ndarray, output: int) -> np.ndarray:
        return self.session.run([self.outputs[output]], {self.input: pixels})[0]


class OpenVinoSession:
    """`precision` is f32 or bf16, as OpenVINO calls them."""

    def __init__(self, file: Path, input_name: str | None, threads: int, precision: str = "f32") -> None:
        openvino = _installed("openvino")
        core = openvino.Core()
        # Its own choice on processors with AMX is bfloat16, which changes tags.
        config = {"INFERENCE_PRECISION_HINT": precision} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
        try:
            model = core.read_model(file)
            self.compiled = core.compile_model(model, "CPU", config)
        except RuntimeError as error:
            raise ReleaseError(f"The model {file} cannot be opened ({error}); copy the release again.") from error
        names = [port.get_any_name() for port in self.compiled.inputs]
        if input_name is not None and input_name not in names:
            raise ReleaseError(f"The model {file} has no input {input_name}; it has {', '.join(names)}.")
        self.input = input_name or names[0]
        shape = self.compiled.input(self.input).get_partial_shape()
        self.input_shape = [size.get_length() if size.is_static else None for size in shape]
        self.outputs = [port.get_any_name() for port in self.compiled.outputs]

    def run(self, pixels: np.ndarray, output: int) -> np.ndarray:
        return np.array(self.compiled({self.input: pixels})[output])


def choose_device(name: str, runtime: str) -> str:
    """`auto` is CUDA where onnxruntime was installed with it, else the CPU. Raises ReleaseError with the remedy."""
    if name not in ("auto", "cpu") and not name.startswith("cuda"):
        raise ReleaseError(f"No device is called {name!r}; use auto, cpu or cuda.")
    if runtime == "openvino":
        if name.startswith("cuda"):
            raise ReleaseError("OpenVINO runs on the CPU here; use onnxruntime for cuda.")
        return "cpu"
    there = "CUDAExecutionProvider" in _installed("onnxruntime").get_available_providers()
    if name.startswith("cuda") and not there:
        raise ReleaseError("The installed onnxruntime has no CUDA; install onnxruntime-gpu or use cpu.")
    return "cuda" if there and name != "cpu" else "cpu"


def _installed(package: str) -> Any:
    if importlib.util.find_spec(package) is None:
        raise ReleaseError(f"{package} is not installed; run pip install {package}.")
    return importlib.import_module(package)
