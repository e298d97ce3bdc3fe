"""The grid of a fine-tuning: its candidates, their keys, and what it may not ask."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from harness.config.errors import ConfigError
from harness.config.expand import Expansion, expand
from harness.config.identity import run_key
from harness.config.schema import Choice, RandomEncoder


def keys_of(expansion: Expansion) -> list[tuple[str, ...]]:
    """The keys that each choice is made among."""
    found = []
    for member in expansion.members:
        assert isinstance(member.evaluation, Choice)
        found.append(member.evaluation.candidates)
    return found


def test_the_paper_s_candidates() -> None:
    """Protects Table 2's protocol: five learning rates with two numbers of epochs, in the order of the paper."""
    member = expand("2a", "imagenet", cell="byol_10pct").members[0]
    tried = [(one.learning_rate, one.epochs) for one in member.candidates]
    assert tried == [(rate, epochs) for rate in (0.01, 0.02, 0.05, 0.1, 0.005) for epochs in (30, 50)]
    assert {(one.batch, one.momentum, one.weight_decay) for one in member.candidates} == {(1024, 0.9, 0.0)}
    assert {one.data.train for one in member.candidates} == {"simclr-10"}
    assert keys_of(expand("2a", "imagenet", cell="byol_10pct")) == [tuple(run_key(one) for one in member.candidates)]
    assert member.at_paper_scale


def test_runs_come_after_what_they_wait_for() -> None:
    """Protects sweeps: subjects, then candidates, then choices, each once."""
    expansion = expand("fractions", "laptop")
    runs = expansion.runs()
    kinds = [spec.kind for spec in runs.values()]
    assert kinds == sorted(kinds, key=["pretrain", "finetune", "choice"].index)
    seen: set[str] = set(expansion.subjects()) - set(runs)  # initial networks
    for key, spec in runs.items():
        needed = spec.candidates if isinstance(spec, Choice) else (getattr(spec, "subject", None),)
        assert {one for one in needed if one} <= seen
        seen.add(key)
    assert [key for member in expansion.members for key in member.keys if key not in seen] == []


def test_choices_share_their_candidates() -> None:
    """Protects GPU-hours: all labels are fine-tuned once for Table 8 and both figures, whatever they are called."""
    cells = [("8", "byol"), ("fractions", "byol_100"), ("fractions_encoders", "byol_50x1_100")]
    eight, four, five = (keys_of(expand(table, "imagenet", cell=cell)) for table, cell in cells)
    assert eight == four == five
    semi = expand("2a", "laptop", cell="byol_10pct").members[0]
    share = expand("fractions", "laptop", cell="byol_10").members[0]
    assert semi.candidates == share.candidates, "the same labels at the laptop"
    assert semi.evaluation_key != share.evaluation_key, "under another name"


def test_other_candidates_are_another_choice(edit: Callable[[str, str, str], None]) -> None:
    """Protects the sealed test: a changed list has another key, so that the first choice stays as it was recorded."""
    before = expand("8", "imagenet", cell="byol").members[0]
    edit("evaluations/finetune_imagenet.yaml", "[0.01, 0.02, 0.05, 0.1, 0.005]", "[0.01, 0.02, 0.05, 0.1]")
    after = expand("8", "imagenet", cell="byol").members[0]
    assert set(after.candidates) < set(before.candidates)
    assert after.evaluation_key != before.evaluation_key


def test_the_candidates_of_transfer() -> None:
    """Protects Table 3's protocol: seven learning rates with no decay and seven, over the rate; steps; a retraining."""
    member = expand("3", "imagenet", cell="finetune_byol_dtd").members[0]
    tried = [(one.learning_rate, one.weight_decay) for one in member.candidates]
    rates, decays = np.logspace(-4, -1, 7), (0.0, *np.logspace(-6, -3, 7))
    expected = [(rate, decay / rate) for rate, decay in itertools.product(rates, decays)]
    assert len(tried) == 56
    np.testing.assert_allclose(tried, expected, rtol=2e-5)
    assert {(one.steps, one.epochs, one.batch, one.momentum) for one in member.candidates} == {(20_000, None, 256, 0.9)}
    assert {(one.statistics_steps, one.data.train) for one in member.candidates} == {(10.0, "train")}
    assert isinstance(member.evaluation, Choice)
    assert (member.evaluation.retrain, member.evaluation.evaluation) == ("train+valid", "transfer")
    assert member.at_paper_scale


def test_how_many_runs_transfer_takes() -> None:
    """Protects the plan of Table 3: two pretrainings, 24 regressions, 36 choices among 56 candidates each."""
    runs = expand("3", "imagenet").runs().values()
    kinds = [spec.kind for spec in runs]
    counted = {kind: kinds.count(kind) for kind in kinds}
    assert counted == {"pretrain": 2, "logistic": 24, "finetune": 36 * 56, "choice": 36}
    assert kinds == sorted(kinds, key=["pretrain", "logistic", "finetune", "choice"].index)


def test_a_declared_untrained_encoder_may_be_fine_tuned() -> None:
    """Protects Random init: an encoder as initialised from the table's seed, by the same candidates as BYOL's."""
    random, byol = (expand("3", "imagenet", cell=f"finetune_{one}_pets").members[0] for one in ("random", "byol"))
    assert random.subject == RandomEncoder(kind="random", encoder="resnet50", width=1, norm="batch", seed=0)
    moved = [replace(one, subject=byol.subject_key) for one in random.candidates]
    assert tuple(moved) == byol.candidates
    assert random.at_paper_scale


@pytest.mark.parametrize("cell", ["linear_byol", "finetune_byol"])
@pytest.mark.parametrize("dataset", ["voc2012", "voc2007-boxes", "nyu-depth"])
def test_what_has_no_labels_cannot_be_classified(
    edit: Callable[[str, str, str], None], cell: str, dataset: str
) -> None:
    """Protects from a sweep that fails at its first image: the dataset is named, at the line that names it."""
    rest = f'  - id: "{cell}_{{dataset}}"\n' + "    evaluation: transfer_finetune\n" * (cell == "finetune_byol")
    rest += "    grid:\n      evaluate.data.dataset:\n        ["
    edit("tables/table3.yaml", rest, f"{rest}{dataset}, ")
    wanted = rf"table3\.yaml:\d+: data\.dataset: {dataset} has neither a class nor flags of classes for each image"
    with pytest.raises(ConfigError, match=wanted):
        expand("3", "imagenet")


def test_an_untrained_encoder_is_no_footer_of_a_fine_tuning() -> None:
    """Protects a table's footer: fine-tuned, an untrained encoder is trained."""
    assert expand("8", "laptop").cells == ("simclr_repro", "byol")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps: 20000", "steps: 0", "steps: must be at least 1, not 0"),
        ("steps: 20000", "steps: 20000\nepochs: [30]", r"steps: 20000 updates stand beside \[30\] epochs; set one of"),
        ("steps: 20000\n", "", "epochs: is missing; say how long with epochs or with steps"),
        ("statistics_steps: 10.0", "statistics_steps: 0.0", "statistics_steps: must be above 0, not 0"),
        ("statistics_steps: 10.0", "hopeless_points: 100.0", "hopeless_points: must be at least 0 and below 100"),
        ("1.0e-4, 3.1623e-4, 1.0e-3]", "1.0e-4, 1.0e-4]", "weight_decays: must name at least one, each once"),
        (
            "train: train,",
            "train: balanced-10,",
            r"retrain: train\+valid is for candidates that train on train",
        ),
        ("retrain: train+valid", "retrain: train", r"retrain: must be one of train\+valid, not the text 'train'"),
    ],
)
def test_what_transfer_may_not_ask(edit: Callable[[str, str, str], None], old: str, new: str, message: str) -> None:
    """Protects from sweeps that fail late, as below; the last of a file's lines is where a missing key is told."""
    edit("evaluations/transfer_finetune.yaml", old, new)
    with pytest.raises(ConfigError, match=rf"transfer_finetune\.yaml:\d+: .*{message}"):
        expand("3", "imagenet", None, "finetune_byol_cars")


def test_a_division_without_effect(edit: Callable[[str, str, str], None]) -> None:
    """Protects a grid from an option that does nothing."""
    decays = "[0.0, 1.0e-6, 3.1623e-6, 1.0e-5, 3.1623e-5, 1.0e-4, 3.1623e-4, 1.0e-3]"
    edit("evaluations/transfer_finetune.yaml", decays, "[0.0]")
    with pytest.raises(ConfigError, match="over_learning_rate: has no effect where every weight decay is 0"):
        expand("3", "imagenet", None, "finetune_byol_cars")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("count: 45", "count: 0", "strengths.count: must be at least 1, not 0"),
        ("count: 45", "count: 1", "strengths.count: 1 do not go from 1e-06 to 100000"),
        ("low: 1.0e-6", "low: 0.0", "strengths.low: must be above 0"),
        ("low: 1.0e-6", "low: 1.0e+6", "strengths.low: must be above 0 and at most strengths.high, 100000; it is 1e"),
        ("select: valid", "select: test", "data.select: must be one of valid, not the text 'test'"),
        ("train: train", "train: train+valid", r"data.train: must be one of train, not the text 'train\+valid'"),
    ],
)
def test_what_a_regression_may_not_ask(edit: Callable[[str, str, str], None], old: str, new: str, message: str) -> None:
    """Likewise, for transfer's linear evaluation."""
    edit("evaluations/transfer_linear.yaml", old, new)
    with pytest.raises(ConfigError, match=rf"transfer_linear\.yaml:\d+: .*{message}"):
        expand("3", "imagenet", None, "linear_byol_cars")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("train: train,", "train: train+valid,", "holds images of valid or test, which choose and test"),
        ("train: train,", "train: test,", "holds images of valid or test"),
        ("train: train,", "train: tenth,", r"must be train, or a list that ends in its percentage .*, not 'tenth'"),
        ("train: train,", "train: balanced-0,", "must be train, or a list that ends in its percentage"),
        ("[30, 50]", "[30, 30]", r"epochs: must name at least one, each once and above 0, not \[30, 30\]"),
        ("[30, 50]", "[]", "epochs: must name at least one"),
        ("0.1, 0.005]", "0.1, -0.005]", "learning_rates: must name at least one"),
        ("batch: 1024", "batch: 1", "batch: must be at least 2, not 1"),
        ("momentum: 0.9", "momentum: 0.0", "momentum: must lie between 0 and 1, not 0.0"),
        ("epochs: [30, 50]", "steps: 500", "retrain: is missing: candidates of steps keep no network to test"),
        (
            "weight_decays: [0.0]",
            "weight_decays: [-0.1]",
            "weight_decays: must name at least one",
        ),
    ],
)
def test_what_a_grid_may_not_ask(edit: Callable[[str, str, str], None], old: str, new: str, message: str) -> None:
    """Protects from sweeps that fail late: each mistake is told with its file and line."""
    edit("evaluations/finetune_imagenet.yaml", old, new)
    with pytest.raises(ConfigError, match=rf"finetune_imagenet\.yaml:\d+: .*{message}"):
        expand("8", "imagenet")
