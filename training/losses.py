"""Losses over tags, masked and weighted cell by cell.

Each takes logits, targets and weights of the same shape [B, tags]. A target is 1 (yes), 0 (no) or, where an older
release's opinion stands in for the truth, its confidence. A weight is 1 where the truth is known, 0 where it is not,
and something between for opinions. A `..._cells` function gives the loss of each cell; a batch's is their mean by
weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import Loss

POSITIVE, NEGATIVE = 0, 1  # places on the sign axis of Statistics


def weighted_mean(cells: Tensor, weights: Tensor, total: Tensor | None = None) -> Tensor:
    """Zero, with a gradient of zero, when nothing is known. `total` stands for the sum of the weights."""
    return (cells * weights).sum() / (weights.sum() if total is None else total).clamp(min=1e-6)


def focal_cells(logits: Tensor, targets: Tensor, gamma: float, alpha: float) -> Tensor:
    """Focal loss (arXiv:1708.02002), in the form of arXiv:2006.04388 that is least at p = y for soft targets too.

    For y in {0, 1}, |y - p| is 1 - p_t, so it is the usual a_t (1 - p_t)^gamma BCE.
    """
    cells = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    distance = (targets - torch.sigmoid(logits)).abs()
    balance = alpha * targets + (1 - alpha) * (1 - targets)
    return balance * distance.pow(gamma) * cells


def bce_cells(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def asymmetric_cells(
    logits: Tensor, targets: Tensor, gamma_positive: float, gamma_negative: float, clip: float
) -> Tensor:
    """Asymmetric loss (arXiv:2009.14119): negatives below `clip` cost nothing, easy ones little."""
    p = torch.sigmoid(logits)
    shifted = (p - clip).clamp(min=0)
    positive = targets * (1 - p).pow(gamma_positive) * F.logsigmoid(logits)
    negative = (1 - targets) * shifted.pow(gamma_negative) * torch.log((1 - shifted).clamp(min=1e-8))
    return -(positive + negative)


@dataclass(frozen=True)
class Statistics:
    """What a batch's known cells look like, for each picture, category and sign: each float [B, categories, 2].

    The last axis is POSITIVE, NEGATIVE. Sums, so that pictures, batches and processes add up; `sums / cells` are means.
    """

    loss: Tensor
    confidence: Tensor
    cells: Tensor


@torch.no_grad()
def statistics(cells: Tensor, logits: Tensor, targets: Tensor, weights: Tensor, member: Tensor) -> Statistics:
    """`cells` is the loss of each cell; `member` [tags, categories] says with ones which category a tag is of.

    Opinions (weights below 1) are no truth and are left out.
    """
    known = weights >= 1
    signs = (known & (targets > 0.5), known & (targets <= 0.5))
    confidence = torch.sigmoid(logits.float())

    def by_category(values: Tensor) -> Tensor:
        return torch.stack([(values * sign) @ member for sign in signs], dim=2)

    return Statistics(by_category(cells.detach().float()), by_category(confidence), by_category(torch.ones_like(cells)))


class UnifiedFocalLoss(nn.Module):
    """lambda_initial of the first stage's loss and the rest of the second's; gamma 2, alpha 0.25, lambda 0.4 in Camie.

    `kind` chooses another loss for both stages. `forward` returns (total, initial, refined); for an initial-only
    tagger, which returns the same logits twice, the three are equal. With `categories`, a number for each tag,
    `self.seen` afterwards holds the Statistics of each stage of that batch.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float = 0.25,
        lambda_initial: float = 0.4,
        *,
        kind: str = "focal",
        gamma_positive: float = 0.0,
        clip: float = 0.05,
        categories: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.gamma, self.alpha, self.lambda_initial = gamma, alpha, lambda_initial
        self.kind, self.gamma_positive, self.clip = kind, gamma_positive, clip
        member = F.one_hot(categories.long()).float() if categories is not None else None
        self.register_buffer("member", member, persistent=False)
        self.seen: Mapping[str, Statistics] = {}

    @classmethod
    def from_recipe(cls, loss: Loss, categories: Tensor | None = None) -> "UnifiedFocalLoss":
        return cls(
            loss.gamma,
            loss.alpha,
            loss.lambda_initial,
            kind=loss.kind,
            gamma_positive=loss.gamma_positive,
            clip=loss.clip,
            categories=categories,
        )

    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of each cell, [B, tags]; in float32 at least: half precision would round confident cells to none."""
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.kind == "bce":
            return bce_cells(logits, targets)
        if self.kind == "asymmetric":
            return asymmetric_cells(logits, targets, self.gamma_positive, self.gamma, self.clip)
        return focal_cells(logits, targets, self.gamma, self.alpha)

    def forward(
        self, initial: Tensor, refined: Tensor, targets: Tensor, weights: Tensor, total: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`total` stands for the sum of the weights where several processes share a batch."""
        seen: dict[str, Statistics] = {}
        means = []
        for stage, logits in stages(initial, refined).items():
            cells = self.cells(logits, targets)
            means.append(weighted_mean(cells, weights, total))
            if self.member is not None:
                seen[stage] = statistics(cells, logits, targets, weights, self.member)
        self.seen = seen
        if len(means) == 1:
            return means[0], means[0], means[0]
        return self.lambda_initial * means[0] + (1 - self.lambda_initial) * means[1], means[0], means[1]


def stages(initial: Tensor, refined: Tensor) -> dict[str, Tensor]:
    """Logits by the name of their stage; an initial-only tagger, which returns the same twice, has one."""
    return {"initial": initial} if refined is initial else {"initial": initial, "refined": refined}
