"""From a model's scores to the tags that are kept, without a look at those that are not.

A confidence is the sigmoid of a logit, which only grows; so the floor is compared as a logit, and the sigmoid is
computed only of what passes. The result is that of computing and comparing all confidences.
"""

import math

import numpy as np

ACTIVATIONS = ("sigmoid", "identity")
_MARGIN = 1e-3  # below the floor's logit; what it lets through is compared again as a confidence
_CROWD = 4  # times the number wanted; above it the best are found before they are sorted


def activate(scores: np.ndarray, activation: str) -> np.ndarray:
    """Scores as confidences, float32."""
    scores = np.asarray(scores, dtype=np.float32)
    if activation == "identity":
        return scores
    with np.errstate(over="ignore"):  # exp of a large number is inf, and 1 / inf the right 0
        return 1 / (1 + np.exp(-scores))


def select_one(scores: np.ndarray, floor: float, most: int, activation: str) -> tuple[np.ndarray, np.ndarray]:
    """[tags] -> the indices (int32) and confidences (float32) at the floor or above, at most `most`.

    Most confident first; equal confidences go by index.
    """
    limit = floor if activation == "identity" else math.log(floor / (1 - floor)) - _MARGIN
    tags = (scores >= np.float32(limit)).nonzero()[0]
    confidences = scores[tags]
    if activation == "sigmoid":
        np.exp(np.negative(confidences, confidences), confidences)
        confidences += 1
        np.reciprocal(confidences, confidences)
    if len(tags) > _CROWD * most:
        place = len(tags) - most
        kept = confidences >= np.partition(confidences, place)[place]
        tags, confidences = tags[kept], confidences[kept]
    order = np.argsort(-confidences, kind="stable")[:most]
    tags, confidences = tags[order].astype(np.int32), confidences[order]
    if len(tags) and confidences[-1] < floor:
        enough = np.count_nonzero(confidences >= floor)
        tags, confidences = tags[:enough], confidences[:enough]
    return tags, confidences
