"""The grid of a fine-tuning: its candidates, their keys, and what it may not ask."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.config.errors import ConfigError
from harness.config.expand import Expansion, expand
from harness.config.identity import run_key
from harness.config.schema import Choice


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


def test_an_untrained_encoder_is_no_footer_of_a_fine_tuning() -> None:
    """Protects a table's footer: fine-tuned, an untrained encoder is trained."""
    assert expand("8", "laptop").cells == ("simclr_repro", "byol")


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
        ("weight_decay: 0.0", "weight_decay: -0.1", "weight_decay: must be at least 0, not -0.1"),
    ],
)
def test_what_a_grid_may_not_ask(edit: Callable[[str, str, str], None], old: str, new: str, message: str) -> None:
    """Protects from sweeps that fail late: each mistake is told with its file and line."""
    edit("evaluations/finetune_imagenet.yaml", old, new)
    with pytest.raises(ConfigError, match=rf"finetune_imagenet\.yaml:\d+: .*{message}"):
        expand("8", "imagenet")
