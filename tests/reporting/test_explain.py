"""What is behind a cell."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from harness.config.expand import expand
from harness.reporting.explain import explanation, lines
from harness.tracking.record import Record, Runs
from harness.tracking.results import Live
from harness.tracking.store import MemoryStore, Stored
from harness.tracking.sync import sync


def test_a_cell_of_which_one_seed_is_finished(tmp_path: Path) -> None:
    """Protects the way back from a number: keys, records, commits, specs and the runs in MLflow, as JSON."""
    runs, store = Runs(tmp_path / "runs"), MemoryStore("sqlite:///x")
    expansion = expand("5b", "laptop", 2, "byol")
    done = expansion.members[0]
    for key, kind, results in (
        (done.subject_key, "pretrain", {"pretrain.loss": 0.5}),
        (done.evaluation_key, "linear", {"linear_imagenet.top1": 90.0}),
    ):
        record = Record(
            key=key,
            kind=kind,
            state="done",
            spec={},
            commit="c0ffee",
            environment={"torch": "2"},
            started_unix_s=1.0,
            ended_unix_s=2.0,
            results=results,
            flags={"collapsed": False},
        )
        runs.write(record)
    sync(runs, store, runs.keys())
    facts = explanation(expansion, "byol", Live(store, runs))
    assert json.loads(json.dumps(facts)) == json.loads(json.dumps(facts, default=str)), "JSON types alone"
    assert (facts["cell"], facts["profile"], facts["mlflow"]) == ("table5b:byol", "laptop", "sqlite:///x")
    assert json.loads(json.dumps(facts["subject"])) == json.loads(json.dumps(asdict(done.subject)))
    first, second = facts["seeds"]
    assert (first["state"], second["state"]) == ("done", "pending")
    assert first["runs"]["evaluation"]["results"] == {"linear_imagenet.top1": 90.0}
    assert first["runs"]["subject"]["commit"] == "c0ffee"
    assert first["runs"]["subject"]["flags"] == {"collapsed": False}
    assert first["runs"]["subject"]["mlflow_run"] == f"memory-{done.subject_key}"
    unfinished = second["runs"]["subject"]
    assert unfinished["key"] == expansion.members[1].subject_key
    assert unfinished["mlflow_run"] is None
    assert "state" not in unfinished
    text = "\n".join(lines(facts))
    for part in ("table5b:byol at profile laptop", done.subject_key, "linear_imagenet.top1: 90", "tau_base: 0.95"):
        assert part in text
    assert "seed 1: pending" in text


def test_it_says_what_the_table_says(tmp_path: Path) -> None:
    """Protects a reader from two numbers for one run: where records are elsewhere, what MLflow has is explained."""
    expansion, store = expand("5b", "laptop", 1, "byol"), MemoryStore()
    (member,) = expansion.members
    told = {"linear_imagenet.top1": 42.0}
    store.runs[member.evaluation_key] = Stored(member.evaluation_key, "run", "done", "", told, {"odd": True})
    (seed,) = explanation(expansion, "byol", Live(store, Runs(tmp_path / "runs")))["seeds"]
    evaluation = seed["runs"]["evaluation"]
    assert (evaluation["state"], evaluation["results"], evaluation["flags"]) == ("done", told, {"odd": True})
    assert "commit" not in evaluation
    assert seed["state"] == "done"


def test_a_training_that_measures_itself(tmp_path: Path) -> None:
    """Protects the reader of Table 9's supervised column from a second run that there is not."""
    expansion, store = expand("9", "laptop", 1, "supervised_50x1"), MemoryStore()
    (member,) = expansion.members
    store.runs[member.subject_key] = Stored(member.subject_key, "run", "done", "", {"pretrain.top1": 99.0}, {})
    facts = explanation(expansion, "supervised_50x1", Live(store, Runs(tmp_path / "runs")))
    (seed,) = facts["seeds"]
    assert seed["state"] == "done"
    assert list(seed["runs"]) == ["subject"]
    assert seed["runs"]["subject"]["results"] == {"pretrain.top1": 99.0}
    assert "evaluation" not in "\n".join(lines(facts))
