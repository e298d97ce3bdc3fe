"""Tables 6 and 10, whose numbers of ours are configuration."""

from __future__ import annotations

import pytest

from harness.config.datasets import DATASETS
from harness.config.expand import expand
from harness.config.schema import Pretrain
from harness.reporting.described import described
from harness.reporting.layout import read_layout

# Where ours is not the paper's, which the layout says in words.
DIFFERING = {
    ("voc2007", "split.original_train"): (2501, 5011),
    ("caltech101", "split.classes"): (102, 101),
    ("places365", "split.train"): (1785210, 1803460),
}


@pytest.mark.parametrize(("table", "differing"), [("6", {}), ("10", DIFFERING)])
def test_ours_is_the_papers(table: str, differing: dict[tuple[str, str], tuple[int, int]]) -> None:
    """Protects the protocol: what runs are configured with is what the paper prints, but for what is known."""
    ours, paper = described(table), read_layout(table, ()).paper
    found = {
        (cell, metric): (ours[cell, metric], number.mean)
        for cell, told in paper.items()
        for metric, number in told.items()
        if ours[cell, metric] != number.mean
    }
    assert found == differing


def test_table_6_is_what_the_baseline_trains_with() -> None:
    """Protects Table 6 from describing a file that no run reads."""
    (member,) = expand("5b", "imagenet", 1, "byol").members
    assert isinstance(member.subject, Pretrain)
    first, second = member.subject.data.views.first, member.subject.data.views.second
    told = described("6")
    assert (told["blur", "views.t"], told["blur", "views.t_prime"]) == (first.blur, second.blur) == (1.0, 0.1)
    assert (told["solarize", "views.t"], told["solarize", "views.t_prime"]) == (first.solarize, second.solarize)


def test_table_10_names_the_metric_that_is_measured() -> None:
    """Protects the one column of Table 10 that is words: what each dataset is measured by."""
    words = {"top1": "Top-1", "mean_per_class": "Mean per class", "map11": "11-point mAP / AP50", "miou": "Mean IoU"}
    for row in read_layout("10", ()).rows:
        assert words[DATASETS[str(row["cell"])].metric] == row["measure"]


def test_no_other_table_is_described() -> None:
    """Protects tables of results from numbers that no run made."""
    assert described("5b") == {}
