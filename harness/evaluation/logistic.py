"""Regularised logistic regression on frozen features, for a path of strengths (transfer's linear evaluation)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.evaluation.cross_entropy import EachOfMany, Loss, OneOfMany, Point
from harness.evaluation.principal import Principal, principal
from harness.optim.lbfgs import InverseHessian

GAP = 1e-8  # of the objective: what half the squared Newton decrement, as L-BFGS knows it, may be at the end
MEMORY = 10  # steps that L-BFGS remembers
FLAT = 0.1  # a line search ends where the slope is this part of what it was
ROUNDING = 1e-12  # of the objective: less than this is no rise
TRIES = 40  # of a line search; each costs no product with the features
NEVER_FLAT = 1e-12  # least curvature of a logit, for images that are all certain


@dataclass(frozen=True)
class Fit:
    """The classifier features @ weight.T + bias of one strength lambda, in float64: weight (C, D), bias (C,).

    objective: sum_i cross_entropy_i + strength / 2 |weight|^2. A class with nothing to tell it apart by (of no image;
    or by flags, of every or no image) has weight 0 and a bias beyond all other logits, and adds nothing to it.
    """

    strength: float
    weight: Tensor
    bias: Tensor
    objective: float
    iterations: int
    converged: bool


def fit_path(
    features: Tensor,
    labels: Tensor,
    classes: int,
    strengths: Sequence[float],
    *,
    tolerance: float = 1e-5,
    iterations: int = 1000,
) -> Iterator[Fit]:
    """The minimum of sum_i cross_entropy(W f_i + b, y_i) + lambda / 2 |W|^2 for each lambda of `strengths`, in order;
    given from the strongest to the weakest, each comes as soon as it is found.

    labels: (N,) classes, or (N, C) flags, whose cross-entropy is the sum of the binary ones.

    The features are rotated to their principal axes once for all strengths. From the strongest to the weakest, each is
    minimised by L-BFGS from the line through the last two minima over log lambda. It has converged where no component
    of the gradient, divided by N, is above `tolerance` (scikit-learn's rule), and the objective is within about GAP of
    its minimum, which that rule does not tell where lambda is small.
    """
    check(features, labels, classes, strengths)
    return _fits(features, loss_of(labels, classes), strengths, tolerance, iterations)


@torch.no_grad()
def _fits(features: Tensor, loss: Loss, strengths: Sequence[float], tolerance: float, iterations: int) -> Iterator[Fit]:
    problem = Problem(principal(features), loss)
    path, found = Path(problem), dict[float, Fit]()
    waiting = iter(sorted(set(strengths), reverse=True))
    for wanted in strengths:
        while wanted not in found:
            strength = next(waiting)
            end, taken, converged = minimise(problem, strength, path.start(strength), tolerance, iterations)
            path.reached(strength, end)
            weight = torch.zeros(len(loss.limits), features.shape[1], dtype=torch.float64, device=features.device)
            bias = loss.limits.clone()
            weight[loss.minimum] = problem.features.weight(end.parameters)
            bias[loss.minimum] = problem.features.bias(end.parameters)
            found[strength] = Fit(strength, weight, bias, problem.objective(strength, end), taken, converged)
        yield found[wanted]


def check(features: Tensor, labels: Tensor, classes: int, strengths: Sequence[float]) -> None:
    """Raise a ValueError where there is nothing to minimise."""
    if not len(features):
        raise ValueError("a logistic regression needs images; there are none")
    if not torch.isfinite(features).all():
        raise ValueError("features are not finite, so no logistic regression fits them (did training diverge?)")
    if labels.ndim == 1 and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"a label is not among the {classes} classes, which count from 0")
    if labels.ndim == 2 and labels.shape[1] != classes:
        raise ValueError(f"an image has {labels.shape[1]} flags, but there are {classes} classes")
    if not all(0 < strength < math.inf for strength in strengths):
        raise ValueError("a strength of regularisation is a finite number above 0; without one there may be no minimum")


def loss_of(labels: Tensor, classes: int) -> Loss:
    """The cross-entropy that labels (N,) or flags (N, C) ask for."""
    return OneOfMany(labels, classes) if labels.ndim == 1 else EachOfMany(labels)


@dataclass(frozen=True)
class Iterate:
    """Parameters in principal axes (C, r + 1), the bias last, and the logits and loss that they give."""

    parameters: Tensor
    logits: Tensor
    point: Point


class Problem:
    """What all strengths share."""

    def __init__(self, features: Principal, loss: Loss) -> None:
        self.features, self.loss = features, loss

    def origin(self) -> Iterate:
        """No weight, and the biases that are best without."""
        bias = self.loss.start()
        parameters = torch.zeros(len(bias), len(self.features.squares), dtype=bias.dtype, device=bias.device)
        parameters[:, -1] = bias
        return self.at(parameters, bias.repeat(len(self.features.rotated), 1))

    def at(self, parameters: Tensor, logits: Tensor) -> Iterate:
        """The loss there."""
        return Iterate(parameters, logits, self.loss.at(logits))

    def objective(self, strength: float, place: Iterate) -> float:
        """Of a place."""
        return place.point.value + strength / 2 * float(place.parameters[:, :-1].square().sum())

    def gradient(self, strength: float, place: Iterate) -> Tensor:
        """(C, r + 1), at the price of a product with the features."""
        gradient = place.point.residual.T @ self.features.rotated
        gradient[:, :-1] += strength * place.parameters[:, :-1]
        return gradient

    def diagonal(self, strength: float, place: Iterate) -> Tensor:
        """1 / (v_c * sum_i x_ij^2 + lambda), with v_c the mean curvature of class c's logit. If that curvature were the
        same for all images, the Hessian within a class would be diagonal in principal axes, and this its inverse.
        """
        curvature = self.loss.variance(place.point).clamp_min(NEVER_FLAT)[:, None] * self.features.squares
        curvature[:, :-1] += strength
        return 1 / curvature

    def stationary(self, gradient: Tensor, tolerance: float) -> bool:
        """Whether no component of the mean loss's gradient in the weights and biases of the features as given is above
        `tolerance`.
        """
        return bool((self.features.original(gradient).abs() <= tolerance * len(self.features.rotated)).all())


class Path:
    """Where to start, from what stronger regularisation gave."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._reached: list[tuple[float, Iterate]] = []  # the last two, and log lambda

    def reached(self, strength: float, place: Iterate) -> None:
        """Remember a minimum."""
        self._reached = [*self._reached[-1:], (math.log(strength), place)]

    def start(self, strength: float) -> Iterate:
        """On the line through the last two minima over log lambda, if that is lower than the last; the logits follow
        the line too.
        """
        if not self._reached:
            return self._problem.origin()
        last = self._reached[-1][1]
        if len(self._reached) < 2:
            return last
        (earlier, before), (later, _) = self._reached
        ahead = 1 + (math.log(strength) - later) / (later - earlier)
        drawn = self._problem.at(
            torch.lerp(before.parameters, last.parameters, ahead), torch.lerp(before.logits, last.logits, ahead)
        )
        return min(last, drawn, key=lambda place: self._problem.objective(strength, place))


def minimise(
    problem: Problem, strength: float, place: Iterate, tolerance: float, iterations: int
) -> tuple[Iterate, int, bool]:
    """The minimum, the iterations it took, and whether it converged."""
    inverse = InverseHessian(problem.diagonal(strength, place), MEMORY)
    gradient = problem.gradient(strength, place)
    for taken in range(iterations + 1):
        direction = -inverse.times(gradient)
        slope = float((gradient * direction).sum())
        if -slope / 2 <= GAP * problem.objective(strength, place) and problem.stationary(gradient, tolerance):
            return place, taken, True
        reached = search(problem, strength, place, direction, slope) if taken < iterations else None
        if reached is None:
            break
        ahead = problem.gradient(strength, reached)
        inverse.learn(reached.parameters - place.parameters, ahead - gradient)
        place, gradient = reached, ahead
    return place, taken, False


def search(problem: Problem, strength: float, place: Iterate, direction: Tensor, slope: float) -> Iterate | None:
    """The place along a direction where the objective is nearly lowest, by Newton's method within a bracket; None where
    rounding hides it. The logits are linear in the step, so one product with the features serves all tries.
    """
    change = problem.features.rotated @ direction.T
    weights, moved = place.parameters[:, :-1], direction[:, :-1]
    penalty_slope, penalty_curvature = strength * float((weights * moved).sum()), strength * float(moved.square().sum())
    highest = problem.objective(strength, place) * (1 + ROUNDING)
    low, high, step = 0.0, math.inf, 1.0
    for _ in range(TRIES):
        found = problem.at(
            torch.add(place.parameters, direction, alpha=step), torch.add(place.logits, change, alpha=step)
        )
        here = float((found.point.residual * change).sum()) + penalty_slope + step * penalty_curvature
        lower = problem.objective(strength, found) <= highest
        if lower and abs(here) <= FLAT * abs(slope):
            return found
        low, high = (low, step) if here > 0 else (step, high)
        curvature = problem.loss.curvature(found.point, change) + penalty_curvature
        newton = step - here / curvature if lower and curvature > 0 else math.inf
        inside = low < newton < high
        step = newton if inside else (low + high) / 2 if high < math.inf else 2 * step
    return None
