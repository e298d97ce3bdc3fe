"""One spec, one update, whatever the number of workers: in the trial's process, and through Ray Train."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from checkout import Checkout

from harness.tracking.record import Runs
from harness.tracking.spool import Spool

pytestmark = [pytest.mark.chain, pytest.mark.ray]
CELLS: dict[str, dict[str, object]] = {"shared": {}}  # one statistics group, which both workers share
WITHIN = 1e-4  # in float32; tests/training/test_ranks.py holds float64 to 1e-8


@pytest.mark.timeout(400)
def test_two_workers_train_what_one_does(tmp_path: Path) -> None:
    """After 20 updates losses, parameters, batch-norm buffers and target agree, and so does the evaluation."""
    checkout = Checkout(tmp_path / "checkout", cells=CELLS)
    for home, workers in (("one", "1"), ("two", "2")):
        data = {"HARNESS_HOME": str(tmp_path / home), "HARNESS_DATA": str(tmp_path / "data")}
        ended = checkout.harness("run", "table5b", "--seeds", "1", HARNESS_WORKERS=workers, **data)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    alone, together = Runs(tmp_path / "one" / "runs"), Runs(tmp_path / "two" / "runs")
    for key in alone.keys():  # noqa: SIM118  # Runs is no mapping
        one, two = alone.read(key), together.read(key)
        assert one is not None
        assert two is not None
        workers = (1, 2) if one.kind == "pretrain" else (1, 1)  # a small evaluation has one, whatever is asked for
        assert (one.environment["world"], two.environment["world"]) == workers
        losses = [_losses(runs, key, f"{one.kind}.loss") for runs in (alone, together)]
        assert losses[1] == pytest.approx(losses[0], rel=WITHIN)
        if one.kind == "linear":
            assert two.results["linear_imagenet.top1"] == pytest.approx(one.results["linear_imagenet.top1"], abs=0.4)
        else:
            _assert_states_agree(alone, together, key, WITHIN)
    assert len(alone.keys()) == 2, "a pretraining and its evaluation"
    assert not list((tmp_path / "two" / "ray").iterdir()), "nothing of Ray's is left"
    assert all(re.fullmatch(r"[0-9a-f]{16}", path.name) for path in together.path.iterdir())


def _losses(runs: Runs, key: str, name: str) -> dict[int, float]:
    return {point.step: point.metrics[name] for point in Spool(runs.folder(key) / "spool.jsonl").read()}


def _assert_states_agree(alone: Runs, together: Runs, key: str, within: float) -> None:
    """Parameters, running means and running variances of online network, predictor and target, each as one vector.

    A tensor by itself may be rounding alone: the gradient of a bias in front of batch norm is 0.
    """
    states = []
    for runs in (alone, together):
        path = max((runs.folder(key) / "checkpoints").iterdir())  # a slow machine has the one before as well
        assert path.name == "checkpoint-000000020.pt"
        states.append(torch.load(path)["state"])
    for one, two in zip(states[0]["networks"], states[1]["networks"], strict=True):
        assert one.keys() == two.keys()
        for ending in (("weight", "bias"), "running_mean", "running_var"):
            names = [name for name in one if name.endswith(ending)]
            vectors = [torch.cat([state[name].reshape(-1) for name in names]) for state in (one, two)]
            distance = float((vectors[0] - vectors[1]).norm() / vectors[0].norm())
            assert distance <= within, f"{ending}: {distance}"
