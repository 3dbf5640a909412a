import numpy as np
import pytest
import torch

from training.losses import UnifiedFocalLoss, asymmetric_cells, bce_cells, focal_cells, weighted_mean


def cells(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(seed)
    logits = torch.tensor(draw.normal(0, 3, (5, 7)), requires_grad=True)
    targets = torch.tensor((draw.random((5, 7)) < 0.3).astype(float))
    weights = torch.tensor((draw.random((5, 7)) < 0.7).astype(float))
    return logits, targets, weights


def plain_focal(z: np.ndarray, y: np.ndarray, w: np.ndarray, gamma: float, alpha: float) -> float:
    """The textbook form with p_t, cell by cell."""
    total = 0.0
    for z_, y_, w_ in zip(z.flat, y.flat, w.flat, strict=True):
        p = 1 / (1 + np.exp(-z_))
        p_t, a_t = (p, alpha) if y_ == 1 else (1 - p, 1 - alpha)
        total += w_ * -a_t * (1 - p_t) ** gamma * np.log(p_t)
    return total / w.sum()


def focal(z: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return weighted_mean(focal_cells(z, y, 2.0, 0.25), w)


def test_focal_loss_is_the_textbook_formula() -> None:
    logits, targets, weights = cells()
    expected = plain_focal(logits.detach().numpy(), targets.numpy(), weights.numpy(), 2.0, 0.25)
    assert focal(logits, targets, weights).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "loss",
    [
        focal,
        lambda z, y, w: weighted_mean(bce_cells(z, y), w),
        lambda z, y, w: weighted_mean(asymmetric_cells(z, y, 1.0, 2.0, 0.05), w),
    ],
    ids=["focal", "bce", "asymmetric"],
)
def test_gradients_agree_with_finite_differences(loss) -> None:
    logits, targets, weights = cells(1)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets, weights), logits, eps=1e-6, atol=1e-6)


def test_unknown_cells_have_no_say() -> None:
    logits, targets, weights = cells(2)
    before = focal(logits, targets, weights)
    before.backward()
    assert (logits.grad[weights == 0] == 0).all()
    assert torch.equal(focal(logits, torch.where(weights == 0, 1 - targets, targets), weights), before)


def test_nothing_known_is_no_loss_and_no_gradient() -> None:
    logits, targets, weights = cells(3)
    loss = focal(logits, targets, torch.zeros_like(weights))
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


def test_soft_targets_are_best_met_exactly() -> None:
    target, weight = torch.full((1, 1), 0.3), torch.ones(1, 1)
    logits = torch.logit(torch.linspace(0.01, 0.99, 99)).view(-1, 1, 1)
    losses = torch.stack([focal(z, target, weight) for z in logits])
    assert losses.argmin().item() == 29


def test_the_two_stages_are_weighed_by_lambda() -> None:
    logits, targets, weights = cells(4)
    other = logits * 0.5
    total, first, second = UnifiedFocalLoss()(logits, other, targets, weights)
    assert total.item() == pytest.approx(0.4 * first.item() + 0.6 * second.item())
    assert UnifiedFocalLoss()(logits, logits, targets, weights)[0].item() == pytest.approx(first.item())
