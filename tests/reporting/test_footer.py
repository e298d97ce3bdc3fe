"""The lines under a table."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.reporting.aggregate import Table
from harness.reporting.footer import footer

Build = Callable[..., Table]


def test_what_is_missing(table: Build) -> None:
    """Protects the reader from taking a gap for a result: each state, how far it is, and the cells that are in it."""
    lines = footer(table())
    assert lines[-4:] == [
        "Partial, 2 of 3 seeds finished: nopred_ema_beta1.",
        "Pending, 0 of 3 seeds finished: simclr.",
        "Failed, 2 of 3 seeds finished: pred_online_beta1.",
        "Diverged, 1 of 3 seeds finished: nopred_online_beta0.",
    ]
    assert not any(line.startswith("Complete") for line in lines)


def test_a_table_of_which_nothing_is_finished(example: Build) -> None:
    """Protects a table of thirty cells from thirty lines, and a table without runs from `0 of 0 seeds`."""
    assert footer(example("17", "none"))[-1] == "Pending, 0 of 3 seeds finished: every cell."
    assert footer(example("3", "none"))[-1] == "Pending, 0 of 1 seeds finished: every cell."
    assert footer(example("1a", "none"))[-1] == "Pending, 0 of 1 seeds finished: byol."
    assert footer(example("13", "none"))[-1] == "Pending, 0 of 1 seeds finished: every cell."
    assert footer(example("10", "none"))[-1] == "Data not prepared here: every cell."
    assert not [line for line in footer(example("17", "complete")) if "finished" in line]


def test_one_metric_alone(example: Build) -> None:
    """Protects a cell of which one number is there: what diverged is chance in top-1, and has no align loss."""
    lines = footer(example("raft1", "partial"))
    assert "Diverged, 3 of 3 seeds finished: byol_lp (Top-1), tanbyol_prime_lp (Top-1)." in lines
    assert "Diverged, 2 of 3 seeds finished: byol_lp (Align, Uniform), tanbyol_prime_lp (Align, Uniform)." in lines


def test_stand_in_data_says_so(table: Build) -> None:
    """Protects against reading digits at 16 px as ImageNet."""
    assert any("stand-in data" in line for line in footer(table("laptop")))
    assert not any("stand-in" in line for line in footer(table("imagenet")))


def test_fewer_seeds(table: Build) -> None:
    """Protects SEEDS: a single seed is no mean of several."""
    assert not any("seeds" in line and "Paper" not in line for line in footer(table(seeds=1, cell="nopred_ema_beta1")))


def test_seeds_of_some_cells_alone(example: Build) -> None:
    """Protects Table 4a, whose segmentation alone has five seeds, from a mean of five detections."""
    lines = footer(example("4a", "complete"))
    assert [line for line in lines if "seeds" in line] == [
        "Mean of 5 seeds (mIoU), ± half the range where that is above 0.25."
    ]
    assert not any(line.startswith("AP50: AP50") for line in lines), "headings that are the metrics' own say it all"


def test_what_each_block_is_measured_in(example: Build) -> None:
    """Protects Table 3, whose headings name datasets alone, against Table 10's list of metrics."""
    assert (
        "Top-1: Food101, CIFAR10, CIFAR100, Birdsnap, SUN397, Cars, DTD; "
        "Mean per class: Aircraft, Pets, Caltech-101, Flowers; 11-point mAP: VOC2007."
    ) in footer(example("3", "none"))


def test_verdicts_are_told_by_kind(table: Build) -> None:
    """Protects the Markdown's and LaTeX's readers, who see no csv: which numbers are the paper's."""
    told = {
        "byol": ("72.5", "72.5", "72.6"),
        "simclr": ("60.0", "60.1", "60.2"),
        "pred_ema_beta1": ("70.0", "71.0", "71.9"),
        "nopred_ema_beta1": ("70.7", "70.7", "pending"),
    }
    lines = [line for line in footer(table(results=told)) if "beside the paper's" in line]
    assert lines[:2] == ["Equivalent, beside the paper's: byol.", "Different, beside the paper's: simclr (-9.3)."]
    assert re.fullmatch(r"Underpowered, beside the paper's: pred_ema_beta1 \(\d+ more seeds\)\.", lines[2])
    assert len(lines) == 3
    assert not [line for line in footer(table("laptop", told)) if "beside the paper's" in line]
