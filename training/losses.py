"""Losses over tags, masked and weighted cell by cell.

Each takes logits, targets and weights of the same shape [B, tags]. A target is 1 (yes), 0 (no) or, where an older
release's opinion stands in for the truth, its confidence. A weight is 1 where the truth is known, 0 where it is not,
and something between for opinions. The result is the mean over cells by weight.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import Loss


def weighted_mean(cells: Tensor, weights: Tensor) -> Tensor:
    """Zero, with a gradient of zero, when nothing is known."""
    return (cells * weights).sum() / weights.sum().clamp(min=1e-6)


def focal(logits: Tensor, targets: Tensor, weights: Tensor, gamma: float, alpha: float) -> Tensor:
    """Focal loss (arXiv:1708.02002), in the form of arXiv:2006.04388 that is least at p = y for soft targets too.

    For y in {0, 1}, |y - p| is 1 - p_t, so it is the usual a_t (1 - p_t)^gamma BCE.
    """
    cells = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    distance = (targets - torch.sigmoid(logits)).abs()
    balance = alpha * targets + (1 - alpha) * (1 - targets)
    return weighted_mean(balance * distance.pow(gamma) * cells, weights)


def bce(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return weighted_mean(F.binary_cross_entropy_with_logits(logits, targets, reduction="none"), weights)


def asymmetric(
    logits: Tensor, targets: Tensor, weights: Tensor, gamma_positive: float, gamma_negative: float, clip: float
) -> Tensor:
    """Asymmetric loss (arXiv:2009.14119): negatives below `clip` cost nothing, easy ones little."""
    p = torch.sigmoid(logits)
    shifted = (p - clip).clamp(min=0)
    positive = targets * (1 - p).pow(gamma_positive) * F.logsigmoid(logits)
    negative = (1 - targets) * shifted.pow(gamma_negative) * torch.log((1 - shifted).clamp(min=1e-8))
    return weighted_mean(-(positive + negative), weights)


class UnifiedFocalLoss(nn.Module):
    """lambda_initial of the first stage's loss and the rest of the second's; gamma 2, alpha 0.25, lambda 0.4 in Camie.

    `kind` chooses another loss for both stages. `forward` returns (total, initial, refined); for an initial-only
    tagger, which returns the same logits twice, the three are equal.
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
    ) -> None:
        super().__init__()
        self.gamma, self.alpha, self.lambda_initial = gamma, alpha, lambda_initial
        self.kind, self.gamma_positive, self.clip = kind, gamma_positive, clip

    @classmethod
    def from_recipe(cls, loss: Loss) -> "UnifiedFocalLoss":
        return cls(
            loss.gamma,
            loss.alpha,
            loss.lambda_initial,
            kind=loss.kind,
            gamma_positive=loss.gamma_positive,
            clip=loss.clip,
        )

    def one(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        logits = logits.float()  # half precision would round confident cells to no loss at all
        if self.kind == "bce":
            return bce(logits, targets, weights)
        if self.kind == "asymmetric":
            return asymmetric(logits, targets, weights, self.gamma_positive, self.gamma, self.clip)
        return focal(logits, targets, weights, self.gamma, self.alpha)

    def forward(
        self, initial: Tensor, refined: Tensor, targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        first = self.one(initial, targets, weights)
        if refined is initial:
            return first, first, first
        second = self.one(refined, targets, weights)
        return self.lambda_initial * first + (1 - self.lambda_initial) * second, first, second
