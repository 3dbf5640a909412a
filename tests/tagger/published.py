"""Published files made in the test: ONNX models and weights of other projects' exact interfaces, but small."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tagger.vocabulary import Vocabulary


def write_onnx(
    file: Path,
    shape: Sequence[int | str],
    outputs: dict[str, np.ndarray],
    *,
    input_name: str = "input",
    sigmoid: Sequence[str] = (),
    indices: str | None = None,
    pooled: Sequence[int] = (2, 3),
) -> None:
    """A model whose outputs are linear in the mean colour of the picture: [B, 3] times each weight [3, tags].

    `sigmoid` names outputs with the activation inside; `indices` adds the int64 output of the most likely tags.
    """
    nodes = [helper.make_node("ReduceMean", [input_name, "axes"], ["colour"], keepdims=0)]
    constants = [numpy_helper.from_array(np.array(pooled, dtype=np.int64), "axes")]
    values = []
    for name, weight in outputs.items():
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}.weight"))
        inside = f"{name}.logits" if name in sigmoid else name
        nodes.append(helper.make_node("MatMul", ["colour", f"{name}.weight"], [inside]))
        if name in sigmoid:
            nodes.append(helper.make_node("Sigmoid", [inside], [name]))
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], weight.shape[1]]))
    if indices:
        constants.append(numpy_helper.from_array(np.array([4], dtype=np.int64), "k"))
        nodes.append(helper.make_node("TopK", [next(iter(outputs)), "k"], ["best", indices]))
        values.append(helper.make_tensor_value_info(indices, TensorProto.INT64, [shape[0], 4]))
    picture = helper.make_tensor_value_info(input_name, TensorProto.FLOAT, list(shape))
    graph = helper.make_graph(nodes, "tagger", [picture], values, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, file)


def weight(tags: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (3, tags))


def metadata(vocabulary: Vocabulary) -> dict[str, Any]:
    """metadata.json of Camie v1."""
    return {
        "total_tags": len(vocabulary),
        "idx_to_tag": {str(index): name for index, name in enumerate(vocabulary.names)},
        "tag_to_category": dict(zip(vocabulary.names, vocabulary.categories, strict=True)),
    }


def write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), "utf-8")
