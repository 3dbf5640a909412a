"""A backbone run by OpenVINO, where it is installed. Its compiled form is the fastest known in bfloat16."""

import importlib.util
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from tagger.backbone import Backbone


def installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


class OpenVinoBackbone(nn.Module):
    """Takes a backbone's place for use on a processor. Compiling takes seconds and a copy of the weights."""

    def __init__(self, backbone: Backbone, side: int, dtype: torch.dtype, threads: int, channels: int = 3) -> None:
        """`side` and `channels` are those of the pictures, or of the maps where it is the later part of a backbone."""
        super().__init__()
        import openvino

        self.size, self.dtype = backbone.size, dtype
        precision = "bf16" if dtype == torch.bfloat16 else "f32"
        config = {"INFERENCE_PRECISION_HINT": precision} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the sizes that tracing takes for constants are: pictures are of `side`
            model = openvino.convert_model(backbone, example_input=torch.zeros(1, channels, side, side))
        model.reshape([-1, channels, side, side])
        self.compiled = openvino.Core().compile_model(model, "CPU", config)

    def forward(self, images: Tensor) -> Tensor:
        """As Backbone's, for pictures or maps of `side`"""
        found = self.compiled([images.float().contiguous().numpy()])[0]
        return torch.from_numpy(np.array(found)).to(self.dtype)
