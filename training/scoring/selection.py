"""What the first stage hands to the second: the tags it selects as context, and how good a choice they are.

    ground_truth_recall    share of a picture's true tags that are among its selected ones, over all pictures
    true_probability       mean probability of the selected tags that are true
    other_probability      mean probability of the selected tags that are not
    unique_tags            how many different tags were selected for any picture; unique_share of the vocabulary

Cells whose truth is unknown count as selected tags only, as neither true nor other.
"""

import numpy as np

Numbers = dict[str, float]


def selected(probabilities: np.ndarray, size: int) -> np.ndarray:
    """The `size` most likely tags of each row, best first: float [B, tags] -> int [B, K]."""
    size = min(size, probabilities.shape[1])
    if size == probabilities.shape[1]:
        return np.argsort(-probabilities, axis=1, kind="stable")
    found = np.sort(np.argpartition(-probabilities, size - 1, axis=1)[:, :size], axis=1)
    best = np.argsort(-np.take_along_axis(probabilities, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, best, axis=1)


class Selection:
    """Counts batches: `add` the first stage's probabilities with the truth, then ask for `numbers`."""

    def __init__(self, tags: int, size: int) -> None:
        """`size` is the architecture's tag_context_size."""
        self.size = min(size, tags)
        self.pictures = self.true = self.other = self.positives = 0
        self.true_sum = self.other_sum = 0.0
        self.seen = np.zeros(tags, dtype=bool)

    def add(self, probabilities: np.ndarray, truth: np.ndarray, known: np.ndarray) -> None:
        """float32, bool, bool, each [B, tags]."""
        tags = selected(probabilities, self.size)
        values, yes, sure = (np.take_along_axis(part, tags, axis=1) for part in (probabilities, truth, known))
        right, wrong = yes & sure, ~yes & sure
        self.pictures += len(tags)
        self.positives += int((truth & known).sum())
        self.true += int(right.sum())
        self.other += int(wrong.sum())
        self.true_sum += float(values[right].sum(dtype=np.float64))
        self.other_sum += float(values[wrong].sum(dtype=np.float64))
        self.seen[tags.ravel()] = True

    def numbers(self) -> Numbers:
        """The four measures, 0 where nothing was counted."""
        unique = int(self.seen.sum())
        return {
            "ground_truth_recall": round(self.true / max(self.positives, 1), 4),
            "true_probability": round(self.true_sum / max(self.true, 1), 4),
            "other_probability": round(self.other_sum / max(self.other, 1), 4),
            "unique_tags": unique,
            "unique_share": round(unique / max(len(self.seen), 1), 4),
            "size": self.size,
        }
