"""Regularised logistic regression by scikit-learn: the same problem, each strength by itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from harness.data.records import DIFFICULT, PRESENT
from harness.evaluation.logistic import Fit, check, loss_of

Rows = tuple[NDArray[np.float64], NDArray[np.float64], int]  # weights, biases, iterations


def fit_path_sklearn(
    features: Tensor,
    labels: Tensor,
    classes: int,
    strengths: Sequence[float],
    *,
    tolerance: float = 1e-5,
    iterations: int = 1000,
) -> Iterator[Fit]:
    """As fit_path, but for the stopping rule, which is the gradient's alone: where lambda is small, the objective may
    end far above its minimum.
    """
    check(features, labels, classes, strengths)
    return (_fit_one(features, labels, classes, strength, tolerance, iterations) for strength in strengths)


def _fit_one(features: Tensor, labels: Tensor, classes: int, strength: float, tolerance: float, iterations: int) -> Fit:
    loss = loss_of(labels, classes)
    inputs, targets = features.double().cpu().numpy(), labels.cpu().numpy()
    model = LogisticRegression(C=1 / strength, tol=tolerance, max_iter=iterations)
    if labels.ndim == 2:
        rows = _of_flags(model, inputs, targets[:, loss.minimum.cpu().numpy()])
    else:
        rows = _of_classes(model, inputs, targets)
    found = [torch.from_numpy(part).to(features.device) for part in rows[:2]]
    value = loss.at(features.double() @ found[0].T + found[1]).value
    weight = torch.zeros(classes, features.shape[1], dtype=torch.float64, device=features.device)
    bias = loss.limits.clone()
    weight[loss.minimum], bias[loss.minimum] = found
    objective = value + strength / 2 * float(weight.square().sum())
    return Fit(strength, weight, bias, objective, rows[2], rows[2] < iterations)


def _of_classes(model: LogisticRegression, inputs: NDArray[np.float64], labels: NDArray[np.int64]) -> Rows:
    """A row for each class that has an image."""
    present = np.unique(labels)
    if len(present) == 1:
        return np.zeros((1, inputs.shape[1])), np.zeros(1), 0
    if len(present) > 2:
        _fit(model, inputs, labels)
        return model.coef_, model.intercept_, int(model.n_iter_.max())
    # scikit-learn has one row for two classes, w = W_1 - W_0; with W_1 = -W_0, |W|^2 is half of |w|^2.
    _fit(model.set_params(C=2 * model.C), inputs, labels)
    halves = np.array([-0.5, 0.5])
    return halves[:, None] * model.coef_, halves * model.intercept_, int(model.n_iter_.max())


def _of_flags(model: LogisticRegression, inputs: NDArray[np.float64], flags: NDArray[np.int8]) -> Rows:
    """A row for each class, fitted on the images where it is not DIFFICULT; the iterations of the longest."""
    weights, biases, iterations = np.zeros((flags.shape[1], inputs.shape[1])), np.zeros(flags.shape[1]), 0
    for number, column in enumerate(flags.T):
        counted = column != DIFFICULT
        _fit(model, inputs[counted], column[counted] == PRESENT)
        weights[number], biases[number] = model.coef_[0], model.intercept_[0]
        iterations = max(iterations, int(model.n_iter_.max()))
    return weights, biases, iterations


def _fit(model: LogisticRegression, inputs: NDArray[np.float64], targets: NDArray[np.generic]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a Fit says itself whether it converged
        model.fit(inputs, targets)
