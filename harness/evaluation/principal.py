"""Features in their principal axes, where a linear classifier's penalty stays what it was."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 4096  # centred at a time, so that no second copy of all features is made


@dataclass(frozen=True)
class Principal:
    """(f_i - mean)' axes, and 1 behind them for the bias: `rotated`, (N, r + 1). axes: (D, r), orthonormal.

    A penalised row w lies in the span of the centred features, so w = axes u loses nothing, and |w| = |u|; what the
    mean adds to a logit moves into the bias, which is free. squares: of each column, summed over the images.
    """

    mean: Tensor
    axes: Tensor
    rotated: Tensor
    squares: Tensor

    def weight(self, parameters: Tensor) -> Tensor:
        """(C, r + 1) -> (C, D): on the features as they were given."""
        return parameters[:, :-1] @ self.axes.T

    def bias(self, parameters: Tensor) -> Tensor:
        """(C, r + 1) -> (C): on the features as they were given."""
        return parameters[:, -1] - parameters[:, :-1] @ (self.mean @ self.axes)

    def original(self, gradient: Tensor) -> Tensor:
        """(C, r + 1) -> (C, D + 1): the gradient in the weights and biases on the features as they were given."""
        bias = gradient[:, -1:]
        return torch.cat([gradient[:, :-1] @ self.axes.T + bias * self.mean, bias], dim=1)


@torch.no_grad()
def principal(features: Tensor) -> Principal:
    """Rotate (N, D) features to r = min(N, D) axes, in float64."""
    images, width = features.shape
    mean = torch.zeros(width, dtype=torch.float64, device=features.device)
    for rows in features.split(ROWS):
        mean += rows.sum(0, dtype=torch.float64) / images
    if images < width:  # the axes lie in the span of the few images
        centred = features.double() - mean
        span = torch.linalg.qr(centred.T).Q
        axes = span @ torch.linalg.eigh(_covariance(centred @ span, torch.zeros_like(mean[:images]))).eigenvectors
    else:
        axes = torch.linalg.eigh(_covariance(features, mean)).eigenvectors
    rotated = torch.ones(images, axes.shape[1] + 1, dtype=torch.float64, device=features.device)
    for rows, target in zip(features.split(ROWS), rotated.split(ROWS), strict=True):
        target[:, :-1] = (rows.double() - mean) @ axes
    return Principal(mean, axes, rotated, torch.linalg.vector_norm(rotated, dim=0).square())


def _covariance(features: Tensor, mean: Tensor) -> Tensor:
    """Times the number of images."""
    width = features.shape[1]
    total = torch.zeros(width, width, dtype=torch.float64, device=features.device)
    for rows in features.split(ROWS):
        centred = rows.double() - mean
        total.addmm_(centred.T, centred)
    return total
