"""What a figure says of what it lacks."""

from __future__ import annotations

import pytest
from generated_results import State, figure_inputs

from harness.reporting.figure_layout import read_figure
from harness.reporting.traces import picture


def _said(figure: str, state: State) -> str:
    return picture(read_figure(figure)[0], *figure_inputs([figure], state=state)).footnotes[0]


def _when(*cells: str, seed: int | None = None, state: str = "pending") -> State:
    return lambda cell, at: state if cell in cells and seed in (None, at) else "done"


@pytest.mark.parametrize(
    ("figure", "state", "said"),
    [
        ("3a", _when(), "Ours: 12 of 12 points."),
        ("3a", _when("byol_256", "byol_128"), "Ours: 10 of 12 points (missing: BYOL [256, 128])."),
        ("3a", lambda cell, _: "pending" if "simclr" in cell else "done", "6 of 12 points (missing: SimCLR (repro))."),
        ("3a", lambda *_: "pending", "Ours: 0 of 12 points."),
        ("3a", _when("byol_512", seed=1), "Ours: 12 of 12 points (partial: BYOL [512])."),
        ("3a", _when("byol_512", seed=1, state="failed"), "Ours: 12 of 12 points (failed: BYOL [512])."),
        ("3a", _when("byol_512", seed=1, state="diverged"), "Ours: 12 of 12 points (diverged: BYOL [512])."),
        ("3b", _when("byol_crop_and_blur_only"), "Ours: 9 of 10 points (missing: BYOL [Crop + blur only])."),
        ("7", _when("batch"), "Ours: 4 of 6 curves (missing: Batch norm)."),
        ("raft4", _when("byol_np"), "Ours: 9 of 12 curves (missing: BYOL-NP (none)); 6 of 8 points (missing: BYOL-NP"),
        (
            "raft5",
            _when("raft_np_-1.0"),
            "16 of 18 curves (missing: β = 1 [(b); (e)]); 16 of 18 points (missing: β = 1",
        ),
        ("1", _when(), "Ours: 5 of 5 points."),  # of Table 9 alone: what the paper quotes is none of ours
        ("6", _when("byol_152x3", "supervised_50x1"), "22 of 24 points (missing: BYOL [522], Supervised [24])."),
        ("4", _when("byol_10"), "Ours: 40 of 42 points (missing: BYOL [10])."),
        ("5", _when(), "Ours: 72 of 72 points."),
    ],
)
def test_what_is_missing_is_named(figure: str, state: State, said: str) -> None:
    """Protects the reader from taking a gap for a result: each is counted and named, the shortest way there is."""
    assert said in _said(figure, state)


def test_a_metric_that_was_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects RAFT's Figure 4 where no online classifier learnt along: finished runs are not called missing."""
    monkeypatch.setattr("generated_results.CURVES", ("loss", "uniform"))
    names = "BYOL (MLP) [(c)], BYOL-LP (linear) [(c)], BYOL-LPI (from identity) [(c)], BYOL-NP (none) [(c)]"
    assert f"8 of 12 curves (not reported: {names});" in _said("raft4", _when())
