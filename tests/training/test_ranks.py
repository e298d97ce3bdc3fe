"""Two processes make the update that one process makes: losses, parameters, buffers and target."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from small import BYOL, IMAGES, MECHANISMS, SIMCLR, mechanism, noise, pretrain, supervised

from harness.config.schema import Pretrain
from harness.training import diagnostics
from harness.training.batch_plan import BatchPlanError
from harness.training.ranks import Ranks
from harness.training.state import build_state, build_supervised
from harness.training.step import Plan, update, update_supervised

UPDATES, FEW = 20, 4  # of the plain cells; of the other mechanisms, of which there are many
CASES = {  # update batch 8: one statistics group over both ranks, or one group on each
    "byol, one group": pretrain(BYOL, update=8, statistics=8, epochs=4, precision="float64"),
    "byol, two groups": pretrain(BYOL, update=8, statistics=4, epochs=4, precision="float64"),
    "simclr, one group": pretrain(SIMCLR, update=8, statistics=8, epochs=4, precision="float64"),
    "simclr, two groups": pretrain(SIMCLR, update=8, statistics=4, epochs=4, precision="float64"),
    **{name: mechanism(name, epochs=4, precision="float64") for name in MECHANISMS},
}


def train(spec: Pretrain, updates: int) -> dict[str, Any]:
    """A few updates in this process, whatever its place among the ranks."""
    ranks = Ranks.join(spec.schedule.update_batch, spec.schedule.statistics_batch)
    state, plan = build_state(spec, torch.device("cpu"), ranks), Plan(spec, IMAGES)
    views = noise(updates * spec.schedule.update_batch)
    numbers = []
    for step in range(updates):
        positions = torch.from_numpy(ranks.plan.positions(step, step + 1)).split(ranks.plan.microbatch)
        batch = [(views[0][own], views[1][own]) for own in positions]
        loss, seen = update(state, plan, step, batch, ranks)
        everyone = ranks.gather_all(seen.projections)
        numbers += [float(ranks.average(loss)), diagnostics.spread(everyone), diagnostics.effective_rank(everyone)]
    saved = state.state_dict()
    return {
        "numbers": torch.tensor(numbers),
        **{f"{i}.{name}": value for i, part in enumerate(saved["networks"]) for name, value in part.items()},
    }


CLASSES = 10
LABELLED = {
    "supervised, one group": supervised(update=8, statistics=8, epochs=4, precision="float64"),
    "supervised, two groups": supervised(update=8, statistics=4, epochs=4, precision="float64"),
}


def train_on_labels(spec: Pretrain, updates: int) -> dict[str, Any]:
    """As train, of a network that is trained on labels."""
    ranks = Ranks.join(spec.schedule.update_batch, spec.schedule.statistics_batch)
    state, plan = build_supervised(spec, CLASSES, torch.device("cpu"), ranks), Plan(spec, IMAGES)
    view = noise(updates * spec.schedule.update_batch)[0]
    labels = torch.arange(len(view)) % CLASSES
    numbers = []
    for step in range(updates):
        positions = torch.from_numpy(ranks.plan.positions(step, step + 1)).split(ranks.plan.microbatch)
        loss, _ = update_supervised(state, plan, step, [(view[own], labels[own]) for own in positions], ranks)
        numbers.append(float(ranks.average(loss)))
    return {"numbers": torch.tensor(numbers), **state.state_dict()["network"]}


def updates_of(case: str) -> int:
    """How many updates a case makes."""
    return FEW if case in MECHANISMS else UPDATES


def rank_main(rank: int, port: int, folder: str) -> None:
    """One of two ranks: all cases, then what ranks say to each other."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    result: dict[str, Any] = {name: train(spec, updates_of(name)) for name, spec in CASES.items()}
    result |= {name: train_on_labels(spec, UPDATES) for name, spec in LABELLED.items()}
    ranks = Ranks.split(8)
    result["microbatch"] = ranks.plan.microbatch
    shared = Path(folder) / "shared"
    result["file there"] = ranks.first_alone(lambda: shared.exists() or shared.touch())
    for name, step in (("same", 5), ("other", 5 + rank)):
        try:
            ranks.agree(step)
            result[name] = "agreed"
        except RuntimeError as error:
            result[name] = str(error)
    try:
        Ranks.split(9)
    except BatchPlanError as error:
        result["refused"] = str(error)
    torch.save(result, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(rank_main, (port, str(folder)), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", [*CASES, *LABELLED])
def test_two_ranks_make_the_update_of_one(case: str, two: list[dict[str, Any]]) -> None:
    """World size changes nothing: losses, diagnostics, parameters, running statistics and target agree to 1e-8."""
    labelled = case in LABELLED
    alone = train_on_labels(LABELLED[case], UPDATES) if labelled else train(CASES[case], updates_of(case))
    for found in two:
        assert found[case].keys() == alone.keys()
        for name, value in alone.items():
            worst = float((found[case][name] - value).abs().max())
            assert torch.allclose(found[case][name], value, rtol=1e-8, atol=1e-10), f"{name} differs by {worst}"


def test_rank_0_writes_before_others_read(two: list[dict[str, Any]]) -> None:
    """`first_alone` lets rank 0 make the file, and the other find it."""
    assert [found["file there"] for found in two] == [None, True]


def test_ranks_go_on_from_one_checkpoint_or_not_at_all(two: list[dict[str, Any]]) -> None:
    """Ranks that read different checkpoints all stop, instead of averaging gradients of different updates."""
    for found in two:
        assert found["same"] == "agreed"
        assert "[5, 6]" in found["other"]


def test_a_batch_that_ranks_cannot_share_is_refused(two: list[dict[str, Any]]) -> None:
    """An evaluation's batch is split evenly, or the message says which numbers do not fit."""
    for found in two:
        assert found["microbatch"] == 4
        assert found["refused"] == "2 ranks cannot share a batch of 9 evenly"


def test_one_rank_needs_no_process_group() -> None:
    """A lone process is told that all ranks agree and writes by itself."""
    ranks = Ranks.split(9)
    ranks.agree(3)
    assert (ranks.plan.microbatch, ranks.everyone, ranks.first_alone(lambda: "done")) == (9, None, "done")
