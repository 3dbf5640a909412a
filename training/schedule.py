"""The learning rate as a share of its highest, by how much of the run is done."""

import math

from training.config import Train


def share(progress: float, train: Train, steps: int) -> float:
    """`progress` from 0 to 1, `steps` in the whole run. A linear warm-up from the floor, then flat or a half cosine.

    Progress, not the step, is what is asked: a time budget ends the same curve earlier.
    """
    warmup = train.warmup / max(steps, 1) if train.warmup > 1 else train.warmup
    warmup = min(warmup, 1.0)
    if progress < warmup:
        return train.floor + (1 - train.floor) * progress / warmup
    if train.schedule == "flat" or warmup >= 1:
        return 1.0
    done = min(max((progress - warmup) / (1 - warmup), 0.0), 1.0)
    return train.floor + (1 - train.floor) * 0.5 * (1 + math.cos(math.pi * done))
