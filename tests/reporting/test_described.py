"""Tables 6 and 10, whose numbers of ours are configuration and counts."""

from __future__ import annotations

from harness.config.datasets import DATASETS
from harness.config.expand import expand
from harness.config.schema import Pretrain
from harness.reporting.aggregate import build_table
from harness.reporting.described import described
from harness.reporting.layout import read_layout
from harness.reporting.prepared import Prepared


def test_table_6_is_the_papers() -> None:
    """Protects the protocol: what runs are configured with is what the paper prints."""
    ours, paper = described("6", Prepared()), read_layout("6", ()).paper
    assert {cell: {metric: ours[cell, metric] for metric in told} for cell, told in paper.items()} == {
        cell: {metric: number.mean for metric, number in told.items()} for cell, told in paper.items()
    }


def test_table_10_is_what_was_counted() -> None:
    """Protects Table 10 from any other source: a number that the machine did not count is not there."""
    counts = {("dtd", "split.train"): 1880.0, ("pets", "split.train"): 2941.0}
    made = build_table(read_layout("10", ()), None, {}, "imagenet", Prepared(counts=counts))
    numbers = {key: (number.ours, number.delta) for key, number in made.numbers.items() if number.ours is not None}
    assert numbers == {("dtd", "split.train"): (1880.0, 0.0), ("pets", "split.train"): (2941.0, 1.0)}
    assert made.numbers["dtd", "split.valid"].status == "pending"
    assert not made.stand_in
    twins = build_table(read_layout("10", ()), None, {}, "laptop", Prepared(counts=counts, stand_ins=True))
    assert twins.stand_in


def test_table_6_is_what_the_baseline_trains_with() -> None:
    """Protects Table 6 from describing a file that no run reads."""
    (member,) = expand("5b", "imagenet", 1, "byol").members
    assert isinstance(member.subject, Pretrain)
    first, second = member.subject.data.views.first, member.subject.data.views.second
    told = described("6", Prepared())
    assert (told["blur", "views.t"], told["blur", "views.t_prime"]) == (first.blur, second.blur) == (1.0, 0.1)
    assert (told["solarize", "views.t"], told["solarize", "views.t_prime"]) == (first.solarize, second.solarize)


def test_table_10_names_the_metric_that_is_measured() -> None:
    """Protects the one column of Table 10 that is words: what each dataset is measured by."""
    words = {"top1": "Top-1", "mean_per_class": "Mean per class", "map11": "11-point mAP / AP50", "miou": "Mean IoU"}
    for row in read_layout("10", ()).rows:
        assert words[DATASETS[str(row["cell"])].metric] == row["measure"]


def test_no_other_table_is_described() -> None:
    """Protects tables of results from numbers that no run made."""
    assert described("5b", Prepared(counts={("byol", "split.train"): 1.0})) == {}
