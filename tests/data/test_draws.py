"""The random parameters of views: their distributions, and that they depend on what they should and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import permutations

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from harness.config.files import project_root
from harness.config.schema import View, Views
from harness.config.structure import structure
from harness.data import randaugment
from harness.data.draws import OPERATIONS, Draws, centre, centre_whole, crop_flip, draw

MANY = 20_000
RANGES = {
    "brightness": (-0.4, 0.4),
    "contrast": (0.6, 1.4),
    "saturation": (0.8, 1.2),
    "hue": (-0.1, 0.1),
    "sigma": (0.1, 2.0),
}


def drawn(view: View, index: np.ndarray, *, seed: int = 0, epoch: int = 0, number: int = 0, side: int = 256) -> Draws:
    """The draws of these images at one epoch, from square sources."""
    return draw(
        view,
        seed=seed,
        epoch=np.full_like(index, epoch),
        index=index,
        view_number=number,
        height=side,
        width=side,
    )


@given(cuts=st.lists(st.integers(0, 64), max_size=5))
def test_draws_do_not_depend_on_the_batch(cuts: list[int]) -> None:
    """Protects equal views on one GPU, eight GPUs and a resumed run."""
    view = replace(crop_flip((0.08, 1.0), 0.5), jitter=0.8, hue=0.1, blur=0.5, blur_sigma=(0.1, 2.0))
    index = np.random.default_rng(1).permutation(64)
    whole = drawn(view, index)
    parts = [drawn(view, part) for part in np.split(index, sorted(cuts))]
    for field in fields(Draws):
        joined = np.concatenate([getattr(part, field.name) for part in parts])
        np.testing.assert_array_equal(getattr(whole, field.name), joined)


def test_draws_depend_on_seed_epoch_image_and_view(second_view: View) -> None:
    """Protects against a counter that leaves one of them out."""
    index = np.arange(32)
    base = drawn(second_view, index)
    for other in (
        drawn(second_view, index, seed=1),
        drawn(second_view, index, epoch=1),
        drawn(second_view, index, number=1),
        drawn(second_view, index + 32),
    ):
        assert not np.array_equal(base.sigma, other.sigma)
        assert not np.array_equal(base.left, other.left)


@pytest.mark.parametrize("changed", ["flip", "jitter", "brightness", "hue", "grayscale", "blur", "solarize"])
def test_changing_one_parameter_moves_no_other(second_view: View, changed: str) -> None:
    """Protects ablations such as Figure 3b: cells with the same seed differ in the removed operation alone."""
    index = np.arange(500)
    base, other = drawn(second_view, index), drawn(replace(second_view, **{changed: 0.0}), index)
    for field in fields(Draws):
        same = np.array_equal(getattr(base, field.name), getattr(other, field.name))
        assert same == (field.name != changed), field.name


# The paper's Table 6, and what each row of Table 17 changes in it: (first view, second view).
TABLE_6 = {
    "flip": (0.5, 0.5),
    "jitter": (0.8, 0.8),
    "grayscale": (0.2, 0.2),
    "blur": (1.0, 0.1),
    "solarize": (0.0, 0.2),
}
NEVER = (0.0, 0.0)
TABLE_17 = {
    "byol": {},
    "remove_flip": {"flip": NEVER},
    "remove_blur": {"blur": NEVER},
    "remove_color": {"jitter": NEVER, "grayscale": NEVER},
    "remove_color_jitter": {"jitter": NEVER},
    "remove_grayscale": {"grayscale": NEVER},
    "remove_blur_in_t_prime": {"blur": (1.0, 0.0)},
    "remove_solarize_in_t_prime": {"solarize": NEVER},
    "remove_blur_and_solarize_in_t_prime": {"blur": (1.0, 0.0), "solarize": NEVER},
    "symmetric_blur_and_solarize": {"blur": (0.5, 0.5), "solarize": (0.2, 0.2)},
    "crop_only": dict.fromkeys(("flip", "jitter", "grayscale", "blur", "solarize"), NEVER),
    "crop_and_flip_only": dict.fromkeys(("jitter", "grayscale", "blur", "solarize"), NEVER),
    "crop_and_color_only": dict.fromkeys(("flip", "blur", "solarize"), NEVER),
    "crop_and_blur_only": dict.fromkeys(("flip", "jitter", "grayscale", "solarize"), NEVER),
}


def named_views(name: str) -> Views:
    """A file of experiments/views."""
    data = yaml.safe_load((project_root() / "experiments" / "views" / f"{name}.yaml").read_text())
    views = structure(Views, data)
    assert isinstance(views, Views)
    return views


def test_every_file_of_views_is_a_row_of_table_17() -> None:
    """Protects the test below from missing one; RandAugment is for training on labels (Table 9)."""
    files = {path.stem for path in (project_root() / "experiments" / "views").glob("*.yaml")}
    assert files == {*TABLE_17, "randaugment"}


@pytest.mark.parametrize("row", TABLE_17)
def test_probabilities_and_ranges_are_those_of_the_paper(row: str) -> None:
    """Protects Tables 6 and 17: what is really drawn, for both views of each row."""
    expected = TABLE_6 | TABLE_17[row]
    views = named_views(row)
    for number, view in enumerate((views.first, views.second)):
        d = drawn(view, np.arange(MANY), number=number)
        for name, probabilities in expected.items():
            p = probabilities[number]
            deviation = 5 * np.sqrt(p * (1 - p) / MANY)  # of the mean; 0 where nothing is random
            assert abs(getattr(d, name).mean() - p) <= deviation, name
        for name, (low, high) in RANGES.items():
            unit = (getattr(d, name) - low) / (high - low)
            np.testing.assert_allclose(np.quantile(unit, [0, 0.25, 0.5, 0.75, 1]), [0, 0.25, 0.5, 0.75, 1], atol=0.02)
        assert (d.height * d.width / 256**2).min() == pytest.approx(0.08, abs=0.005)


def test_probabilities_of_zero_and_one_are_certain(second_view: View) -> None:
    """Protects T, whose blur has probability 1 and whose solarization has 0."""
    d = drawn(replace(second_view, blur=1.0, solarize=0.0), np.arange(MANY))
    assert d.blur.all()
    assert not d.solarize.any()


def test_each_order_of_the_jitter_is_as_likely(second_view: View) -> None:
    """Protects the shuffle of the four colour operations."""
    d = drawn(second_view, np.arange(MANY))
    seen, counts = np.unique(d.order, axis=0, return_counts=True)
    assert [tuple(each) for each in seen] == list(permutations(range(4)))
    assert counts.min() > 0.85 * MANY / 24
    assert counts.max() < 1.15 * MANY / 24


def test_crops_have_the_papers_area_and_aspect(second_view: View) -> None:
    """Protects the crop: area uniform in 8 to 100 %, aspect log-uniform in 3/4 to 4/3, if nothing clamps."""
    d = drawn(replace(second_view, crop_area=(0.08, 0.5)), np.arange(MANY), side=2000)
    area = d.height * d.width / 2000**2
    np.testing.assert_allclose(np.quantile(area, [0, 0.5, 1]), [0.08, 0.29, 0.5], atol=0.006)
    aspect = np.log(d.width / d.height) / np.log(4 / 3)
    np.testing.assert_allclose(np.quantile(aspect, [0, 0.25, 0.5, 0.75, 1]), [-1, -0.5, 0, 0.5, 1], atol=0.02)


def test_crops_larger_than_the_image_are_clamped(second_view: View) -> None:
    """Protects DeepMind's rule against torchvision's: no retry, so many crops have the full width or height."""
    d = drawn(replace(second_view, crop_area=(1.0, 1.0)), np.arange(1000))
    assert ((d.width == 256) | (d.height == 256)).all()
    assert d.width.min() < 230


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_crops_lie_in_the_image(height: int, width: int, index: int) -> None:
    """Protects every source size, a single pixel included."""
    images = np.arange(index, index + 50)
    d = draw(
        crop_flip((0.08, 1.0), 0.5), seed=0, epoch=images * 0, index=images, view_number=0, height=height, width=width
    )
    assert (d.height >= 1).all()
    assert (d.width >= 1).all()
    assert (d.top >= 0).all()
    assert (d.left >= 0).all()
    assert (d.top + d.height <= height).all()
    assert (d.left + d.width <= width).all()


def test_every_offset_is_as_likely(second_view: View) -> None:
    """Protects the last offset, which a rounding mistake makes too rare or puts outside."""
    d = drawn(replace(second_view, crop_area=(0.25, 0.25)), np.arange(MANY), side=8)
    square = d.height == 4
    counts = np.bincount(d.top[square], minlength=5)
    assert len(counts) == 5
    assert counts.min() > 0.9 * square.sum() / 5


def test_each_image_may_have_its_own_size(second_view: View) -> None:
    """Protects sources of mixed size: arrays of heights and widths give what single numbers give."""
    index = np.arange(4)
    sizes = np.array([10, 20, 30, 40])
    mixed = draw(second_view, seed=0, epoch=index * 0, index=index, view_number=0, height=sizes, width=2 * sizes)
    one = draw(second_view, seed=0, epoch=index[2:3] * 0, index=index[2:3], view_number=0, height=30, width=60)
    assert (mixed.top[2], mixed.left[2], mixed.height[2], mixed.width[2]) == (
        one.top[0],
        one.left[0],
        one.height[0],
        one.width[0],
    )


def test_linear_evaluation_only_crops_and_flips() -> None:
    """Protects the training views of linear evaluation."""
    d = drawn(crop_flip((0.08, 1.0), 0.5), np.arange(1000))
    assert not (d.jitter | d.grayscale | d.blur | d.solarize).any()
    assert 0.4 < d.flip.mean() < 0.6
    assert d.height.min() < 128


def test_the_centre_is_the_padded_centre_crop() -> None:
    """Protects evaluation: 224/256 of the shorter side, truncated, offset rounded up, as the released code computes."""
    d = centre(np.full(3, 500), np.full(3, 375))
    assert (d.height.tolist(), d.width.tolist()) == ([328] * 3, [328] * 3)
    assert (d.top.tolist(), d.left.tolist()) == ([86] * 3, [24] * 3)
    assert not (d.flip | d.jitter | d.grayscale | d.blur | d.solarize).any()


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_the_whole_centre_is_the_resized_sides(height: int, width: int) -> None:
    """Protects transfer: all of the shorter side and as much of the longer, as little cut off here as there."""
    d = centre_whole(np.array([height]), np.array([width]))
    assert d.height.tolist() == d.width.tolist() == [min(height, width)]
    for start, extent in ((int(d.top[0]), height), (int(d.left[0]), width)):
        behind = extent - min(height, width) - start
        assert 0 <= behind <= start <= behind + 1
    assert not (d.flip | d.jitter | d.grayscale | d.blur | d.solarize).any()


def test_each_operation_of_randaugment_is_as_likely() -> None:
    """Protects RandAugment's uniform choice, with either sign, and its two draws from each other."""
    assert len(randaugment.OPERATIONS) == OPERATIONS
    view = named_views("randaugment").first
    d = drawn(view, np.arange(MANY))
    assert d.operations.shape == d.levels.shape == (MANY, 2)
    assert set(np.unique(d.levels)) == {-9, 9}
    pairs = np.bincount(_pair(d), minlength=(2 * OPERATIONS) ** 2)
    assert chisquare(pairs).pvalue > 1e-6
    one = drawn(replace(view, operations=1), np.arange(MANY))
    assert np.array_equal(one.operations, d.operations[:, :1])
    assert drawn(replace(view, operations=0), np.arange(MANY)).operations.shape == (MANY, 0)


def _pair(d: Draws) -> np.ndarray:
    """Both operations with their signs as one number."""
    first, second = (2 * d.operations + (d.levels > 0)).T
    paired: np.ndarray = 2 * OPERATIONS * first + second
    return paired
