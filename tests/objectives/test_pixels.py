"""The cross-entropy of pixels against a count one pixel at a time, and against torch's own mean."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.objectives.pixels import pixel_loss

VOID = 255


def draw() -> tuple[Tensor, Tensor]:
    """Logits and a mask of four classes, of which some pixels are void; as many bytes as a record has."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 4, 3, 5, dtype=torch.float64, generator=generator)
    mask = torch.randint(0, 4, (4, 3, 5), generator=generator)
    mask[torch.rand(4, 3, 5, generator=generator) < 0.3] = VOID
    mask[0, 0, :] = VOID
    return logits, mask.to(torch.uint8)


def alone(x: Tensor) -> Tensor:
    """One rank."""
    return x


def test_it_is_the_mean_over_pixels_with_a_class() -> None:
    """Written out; and torch's mean of the same."""
    logits, mask = draw()
    values = []
    for image, y, x in (mask != VOID).nonzero().tolist():
        exponentials = [math.exp(v) for v in logits[image, :, y, x].tolist()]
        values.append(-math.log(exponentials[int(mask[image, y, x])] / sum(exponentials)))
    loss = pixel_loss(logits, mask, void=VOID, gather=alone)
    assert loss.item() == pytest.approx(sum(values) / len(values), rel=1e-12)
    assert loss.item() == pytest.approx(F.cross_entropy(logits, mask.long(), ignore_index=VOID).item(), rel=1e-12)


def test_the_mean_over_ranks_is_the_whole_batchs() -> None:
    """Ranks with different numbers of void pixels: each pixel of the batch counts the same, loss and gradient."""
    logits, mask = draw()
    logits.requires_grad_()
    counts = torch.stack([(part != VOID).sum() for part in mask.split(2)])
    assert counts[0] != counts[1]
    whole = pixel_loss(logits, mask, void=VOID, gather=alone)
    (expected,) = torch.autograd.grad(whole, logits)
    parts = [
        pixel_loss(part, labels, void=VOID, gather=lambda x: counts.to(x.dtype))
        for part, labels in zip(logits.split(2), mask.split(2), strict=True)
    ]
    loss = torch.stack(parts).mean()
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], expected)


def test_void_pixels_have_no_say() -> None:
    """Their logits get no gradient; a batch of nothing else costs nothing, and is no 0 / 0."""
    logits, mask = draw()
    logits.requires_grad_()
    pixel_loss(logits, mask, void=VOID, gather=alone).backward()
    assert logits.grad is not None
    seen = logits.grad.abs().sum(1) > 0
    assert torch.equal(seen, mask != VOID)
    nothing = pixel_loss(logits, torch.full_like(mask, VOID), void=VOID, gather=alone)
    assert nothing.item() == 0
