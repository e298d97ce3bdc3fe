"""Logistic regression against scikit-learn, autograd and the conditions of a minimum."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from harness.evaluation.cross_entropy import EachOfMany, Loss, OneOfMany
from harness.evaluation.logistic import Fit, fit_path
from harness.evaluation.logistic_sklearn import fit_path_sklearn

Solver = Callable[[Tensor, Tensor, int, Sequence[float]], list[Fit]]
STRENGTHS = (1e3, 1.0, 1e-2, 1e-6)


def drawn(images: int, width: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features of overlapping classes, off centre; every class has an image."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    centres = torch.randn(classes, width, dtype=torch.float64, generator=generator)
    noise = torch.randn(images, width, dtype=torch.float64, generator=generator)
    return 3 + 0.5 * centres[labels] + noise, labels


def flags_of(labels: Tensor, classes: int, seed: int = 0) -> Tensor:
    """The class of an image and others, PRESENT, DIFFICULT or ABSENT."""
    generator = torch.Generator().manual_seed(seed)
    flags = torch.randint(-1, 2, (len(labels), classes), generator=generator, dtype=torch.int8)
    return flags.scatter(1, labels[:, None], 1)


def objective(features: Tensor, labels: Tensor, strength: float, weight: Tensor, bias: Tensor) -> Tensor:
    """Written down plainly, by torch's losses, on the features as given."""
    logits = features.double() @ weight.T + bias
    if labels.ndim == 1:
        loss = F.cross_entropy(logits, labels, reduction="sum")
    else:
        each = F.binary_cross_entropy_with_logits(logits, (labels == 1).double(), reduction="none")
        loss = each[labels != 0].sum()
    return loss + strength / 2 * weight.square().sum()


def gradients(features: Tensor, labels: Tensor, fit: Fit) -> list[Tensor]:
    """Autograd's, in the weights and biases."""
    parameters = [fit.weight.clone().requires_grad_(), fit.bias.clone().requires_grad_()]
    return list(torch.autograd.grad(objective(features, labels, fit.strength, *parameters), parameters))


@pytest.mark.parametrize("kind", ["two classes", "classes", "flags", "few images"])
def test_equals_scikit_learn(kind: str) -> None:
    """The minimum is scikit-learn's: objective and weights, a shift of all classes aside; 200 images or 20."""
    classes = 2 if kind == "two classes" else 5
    features, labels = drawn(20 if kind == "few images" else 200, 30, classes)
    if kind == "flags":
        labels = flags_of(labels, classes)
    ours = fit_path(features, labels, classes, STRENGTHS[:3], tolerance=1e-8)
    theirs = fit_path_sklearn(features, labels, classes, STRENGTHS[:3], tolerance=1e-9, iterations=10000)
    for one, other in zip(ours, theirs, strict=True):
        assert one.strength == other.strength
        assert one.converged
        assert one.objective == pytest.approx(other.objective, rel=1e-6)
        torch.testing.assert_close(one.weight, other.weight, rtol=0, atol=2e-3 * float(other.weight.abs().max()))
        logits = [features @ fit.weight.T + fit.bias for fit in (one, other)]
        chances = [torch.sigmoid(z) if kind == "flags" else z.softmax(1) for z in logits]
        torch.testing.assert_close(*chances, rtol=0, atol=1e-3)


@pytest.mark.parametrize("flags", [False, True])
def test_the_objective_is_what_it_says(flags: bool) -> None:
    """`objective` is the sum of losses and half the penalty, on the features as they were given, for every strength;
    no other solver's answer is lower.
    """
    features, labels = drawn(100, 40, 4)
    labels = flags_of(labels, 4) if flags else labels
    ours, theirs = (solver(features, labels, 4, STRENGTHS) for solver in (fit_path, fit_path_sklearn))
    for one, other in zip(ours, theirs, strict=True):
        for fit in (one, other):
            plain = float(objective(features, labels, fit.strength, fit.weight, fit.bias))
            assert fit.objective == pytest.approx(plain, rel=1e-7)
        assert one.objective <= other.objective * (1 + 1e-6)


@pytest.mark.parametrize("flags", [False, True])
def test_derivatives_equal_autograd(flags: bool) -> None:
    """Residual, curvature along a line, and mean curvature of a class, at some logits."""
    _, labels = drawn(40, 2, 5)
    loss: Loss = EachOfMany(flags_of(labels, 5)) if flags else OneOfMany(labels, 5)
    generator = torch.Generator().manual_seed(1)
    logits, change = torch.randn(2, 40, 5, dtype=torch.float64, generator=generator)
    target = flags_of(labels, 5) if flags else labels
    identity, bias = torch.eye(40, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)

    def value(z: Tensor) -> Tensor:
        return objective(identity, target, 0.0, z.T, bias)

    point = loss.at(logits)
    assert point.value == pytest.approx(float(value(logits)))
    (residual,) = torch.autograd.grad(value(z := logits.clone().requires_grad_()), z)
    torch.testing.assert_close(point.residual, residual)
    hessian = torch.autograd.functional.hessian(value, logits).view(200, 200)
    assert loss.curvature(point, change) == pytest.approx(float(change.flatten() @ hessian @ change.flatten()))
    torch.testing.assert_close(loss.variance(point), hessian.diag().view(40, 5).mean(0))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 30), st.integers(1, 12), st.integers(1, 6), st.floats(-6, 5), st.booleans(), st.integers(0, 10**6)
)
def test_the_gradient_vanishes(images: int, width: int, classes: int, exponent: float, flags: bool, seed: int) -> None:
    """Any shape and strength: no component of the mean loss's gradient is above the tolerance, by autograd."""
    features, labels = drawn(max(images, classes), width, classes, seed)
    labels = flags_of(labels, classes, seed) if flags else labels
    (fit,) = fit_path(features, labels, classes, [10**exponent], tolerance=1e-6)
    assert fit.converged
    for gradient in gradients(features, labels, fit):
        assert float(gradient.abs().max()) <= 1.01e-6 * len(features)


@pytest.mark.parametrize("flags", [False, True])
def test_other_strengths_do_not_matter(flags: bool) -> None:
    """A fit by itself ends where it ends on a path, and fits come in the order and number asked for."""
    features, labels = drawn(120, 60, 6)
    labels = flags_of(labels, 6) if flags else labels
    together = fit_path(features, labels, 6, [1e-6, *STRENGTHS])
    assert [fit.strength for fit in together] == [1e-6, *STRENGTHS]
    for fit in together:
        (alone,) = fit_path(features, labels, 6, [fit.strength])
        assert alone.objective == pytest.approx(fit.objective, rel=1e-6)


def test_constant_features_fit_the_prior() -> None:
    """A collapsed encoder: the weights vanish, the biases give the frequencies, and nothing warns or divides by 0."""
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (0.0, 1.0, 1e6):
            for fit in fit_path(torch.full((6, 8), value), labels, 3, STRENGTHS):
                chances = (fit.weight.sum(1) * value + fit.bias).softmax(0)
                torch.testing.assert_close(chances, torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64) / 6)
                assert float(fit.weight.abs().max()) < 1e-12
                assert fit.converged


def test_duplicated_columns_share_their_weight() -> None:
    """Two copies of a column at 1 / sqrt(2) are the column; a constant column gets no weight."""
    features, labels = drawn(100, 5, 3)
    copies = torch.cat([features / 2**0.5, features / 2**0.5, torch.full((100, 1), 7.0)], dim=1)
    for plain, doubled in zip(*(fit_path(x, labels, 3, STRENGTHS) for x in (features, copies)), strict=True):
        assert doubled.objective == pytest.approx(plain.objective, rel=1e-6)
        torch.testing.assert_close(doubled.weight[:, :5], doubled.weight[:, 5:10], rtol=0, atol=1e-6)
        assert float(doubled.weight[:, 10].abs().max()) < 1e-6


@pytest.mark.parametrize("decades", [2, 6])
def test_columns_of_other_units(decades: int) -> None:
    """Scales from 1e-6 to 1e6: no one finds a lower objective, and it is what is on the features as they were given.

    From 1e-2 to 1e2 the gradient vanishes too; further, that of the largest column may stay above the tolerance.
    """
    features, labels = drawn(150, 13, 4)
    features = features * torch.logspace(-decades, decades, 13, dtype=torch.float64)
    ours, theirs = (solver(features, labels, 4, STRENGTHS, iterations=200) for solver in (fit_path, fit_path_sklearn))
    for one, other in zip(ours, theirs, strict=True):
        assert one.converged or decades == 6
        plain = float(objective(features, labels, one.strength, one.weight, one.bias))
        assert one.objective == pytest.approx(plain, rel=1e-6)
        assert one.objective <= other.objective * (1 + 1e-6)


@pytest.mark.parametrize("solver", [fit_path, fit_path_sklearn])
def test_a_class_without_images_is_never_named(solver: Solver) -> None:
    """It leaves the other classes' fit alone, ranks last, and its logit is a number in single precision."""
    features, labels = drawn(60, 8, 3)
    (without,) = solver(features, labels, 3, [1.0])
    (fit,) = solver(features, torch.tensor([0, 2, 3])[labels], 5, [1.0])
    torch.testing.assert_close(fit.weight[[0, 2, 3]], without.weight)
    assert fit.objective == pytest.approx(without.objective)
    logits = (features @ fit.weight.T + fit.bias).float()
    assert torch.isfinite(logits).all()
    assert set(logits.topk(3).indices.unique().tolist()) == {0, 2, 3}


@pytest.mark.parametrize("solver", [fit_path, fit_path_sklearn])
def test_flags_that_are_all_alike_have_no_minimum(solver: Solver) -> None:
    """A class in every image and one in none, DIFFICULT ones aside, cost nothing and leave the others alone."""
    features, labels = drawn(60, 8, 3)
    flags = flags_of(labels, 3)
    (without,) = solver(features, flags, 3, [1.0])
    always, never = (torch.randint(low, low + 2, (60, 1), dtype=torch.int8) for low in (0, -1))
    (fit,) = solver(features, torch.cat([always, flags, never], dim=1), 5, [1.0])
    torch.testing.assert_close(fit.weight[1:4], without.weight)
    assert fit.objective == pytest.approx(without.objective)
    assert not fit.weight[[0, 4]].any()
    assert float(fit.bias[0]) > 1e9
    assert float(fit.bias[4]) < -1e9


@pytest.mark.parametrize("solver", [fit_path, fit_path_sklearn])
def test_one_class_alone(solver: Solver) -> None:
    """Nothing is to be told apart: no weight, no loss."""
    (fit,) = solver(drawn(10, 4, 1)[0], torch.full((10,), 1), 3, [1.0])
    assert fit.objective == 0
    assert not fit.weight.any()
    assert fit.converged


def test_single_precision_is_fitted_in_double() -> None:
    """float32 features give the fit of the same numbers in float64."""
    features, labels = drawn(100, 10, 3)
    features = features.float()
    for one, other in zip(*(fit_path(x, labels, 3, STRENGTHS) for x in (features, features.double())), strict=True):
        assert one.weight.dtype == torch.float64
        torch.testing.assert_close(one.weight, other.weight, rtol=1e-6, atol=1e-8)


def test_is_deterministic() -> None:
    """The same input gives the same bits."""
    features, labels = drawn(200, 50, 7)
    first, second = (fit_path(features, labels, 7, STRENGTHS) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.bias, other.bias)


def test_too_few_iterations_are_told() -> None:
    """A fit that was stopped says so, and one that was not needs no more than it took."""
    features, labels = drawn(100, 50, 5)
    (whole,) = fit_path(features, labels, 5, [1e-4])
    (stopped,) = fit_path(features, labels, 5, [1e-4], iterations=3)
    (enough,) = fit_path(features, labels, 5, [1e-4], iterations=whole.iterations)
    assert (stopped.iterations, stopped.converged) == (3, False)
    assert stopped.objective > whole.objective
    assert (enough.iterations, enough.converged) == (whole.iterations, True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(value: float) -> None:
    """A diverged encoder has no fit; the message says so."""
    features, labels = drawn(10, 4, 2)
    features[3, 1] = value
    with pytest.raises(ValueError, match="features are not finite"):
        fit_path(features, labels, 2, [1.0])


@pytest.mark.parametrize(
    ("labels", "strength", "message"),
    [
        (torch.tensor([0, 1, 2]), 1.0, "not among the 2 classes"),
        (torch.tensor([0, 1, -1]), 1.0, "not among the 2 classes"),
        (torch.ones(3, 4, dtype=torch.int8), 1.0, "4 flags, but there are 2 classes"),
        (torch.tensor([0, 1, 1]), 0.0, "above 0"),
    ],
)
def test_what_has_no_meaning_is_refused(labels: Tensor, strength: float, message: str) -> None:
    """Labels beyond the classes, and no regularisation."""
    with pytest.raises(ValueError, match=message):
        fit_path(torch.ones(3, 2), labels, 2, [strength])
