"""The online classifier: it learns, and the encoder does not notice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small import BYOL, mechanism, pretrain

from harness.config.schema import Pretrain
from harness.data.prepare import Dataset
from harness.training.pretraining import Pretraining
from harness.training.ranks import Ranks

UPDATES = 40


def trained(spec: Pretrain, digits: Dataset, probe: bool, updates: int = UPDATES) -> Pretraining:
    """A pretraining after some updates."""
    batch = spec.schedule.update_batch
    task = Pretraining(spec, digits, torch.device("cpu"), Ranks.join(batch, batch), 1, probe)
    feed = task.feed(0)
    for step in range(updates):
        task.update(step, next(feed))
    task.close()
    return task


@pytest.mark.parametrize("spec", [pretrain(BYOL, update=64, statistics=64, epochs=10), mechanism("raft", epochs=1)])
def test_the_encoder_does_not_notice(spec: Pretrain, digits: Dataset) -> None:
    """Protects self-supervision: with and without labels beside it, the networks are the same to the last bit."""
    alone, watched = (trained(spec, digits, probe, 5) for probe in (False, True))
    for a, b in zip(alone.state.parameters(), watched.state.parameters(), strict=True):
        assert torch.equal(a, b)
    assert "online_top1" not in alone.diagnose()


def test_it_learns(digits: Dataset) -> None:
    """Protects its use: far above chance (10) after a few updates, on views it has not seen before."""
    spec = mechanism("raft", update=64, statistics=64, epochs=10)  # Adam is quick; LARS takes a run's length
    spec = replace(spec, optimizer=replace(spec.optimizer, base_lr=0.01))
    assert trained(spec, digits, True, 2 * UPDATES).diagnose()["online_top1"] > 30


def test_it_goes_on_from_a_checkpoint(digits: Dataset) -> None:
    """Protects its curve over a crash; a checkpoint from before it was asked for is taken too."""
    spec = pretrain(BYOL, update=64, statistics=64, epochs=10)
    first, plain = trained(spec, digits, True, 6), trained(spec, digits, False, 6)
    for before in (first, plain):
        task = Pretraining(spec, digits, torch.device("cpu"), Ranks.join(64, 64), 1, True)
        task.load_state_dict(before.state_dict())
        kept = torch.equal(task._probe.layer.weight, first._probe.layer.weight)  # type: ignore[union-attr]
        assert kept == (before is first)
        task.update(6, next(task.feed(6)))
        task.close()
