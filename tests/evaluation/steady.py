"""What every training of this room has to bear: an end after any update, and a second rank."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from told import run


def resumes(begin: Callable[[], Any], end: Callable[[Any, Path], Any], folder: Path, stops: tuple[int, ...]) -> None:
    """Stopped after so many updates and begun anew, a training reports, leaves and scores what an undisturbed one does,
    bit for bit. `end` is its score, with a folder for the seal.
    """
    whole = begin()
    told = run(whole, folder / "whole").reports
    score, network = end(whole, folder / "whole"), whole.network.state_dict()
    assert list(told) == list(range(1, whole.total + 1))
    whole.close()
    for stop in stops:
        assert 0 < stop < whole.total
        here, cut = folder / f"cut{stop}", begin()
        _stop(cut, stop)
        with pytest.raises(InterruptedError):
            run(cut, here)
        cut.close()
        again = begin()
        assert run(again, here).reports == {step: report for step, report in told.items() if step > stop}
        found = again.network.state_dict()
        assert found.keys() == network.keys()
        assert all(torch.equal(found[name], value) for name, value in network.items())
        assert end(again, here) == score
        again.close()


def _stop(task: Any, stop: int) -> None:
    """Let it fall before this update."""
    made = task.update

    def update(step: int, batch: Any) -> None:
        if step == stop:
            raise InterruptedError
        made(step, batch)

    task.update = update


def updated(
    task: Any, end: Callable[[Any], dict[str, float]], change: Callable[[Any], None] = lambda _batch: None
) -> dict[str, Any]:
    """Two updates on batches that are changed first: the numbers told, the score, and the network."""
    for step, batch in zip(range(2), task.feed(0), strict=False):
        change(batch)
        task.update(step, batch)
    found = {"numbers": {**task.diagnose(), **end(task)}, **task.network.state_dict()}
    task.close()
    return found


def same_on_two_ranks(work: Callable[..., dict[str, Any]], folder: Path, *given: Any, exact: float = 1e-8) -> None:
    """Both ranks find what one process finds: what `work`, a function of a module, makes in float64 of what is `given`,
    and of a folder of its own.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (port, folder, work, given), nprocs=2)
    alone = work(*given, folder / "alone")
    for rank in range(2):
        found = torch.load(folder / f"rank{rank}.pt")
        assert found.keys() == alone.keys()
        assert found.pop("numbers") == pytest.approx(alone["numbers"], rel=exact)
        for name, value in found.items():
            near = {"rtol": exact, "atol": exact / 100}
            torch.testing.assert_close(value, alone[name], **near, msg=lambda text, name=name: f"{name}: {text}")


def _rank(rank: int, port: int, folder: Path, work: Callable[..., dict[str, Any]], given: tuple[Any, ...]) -> None:
    """One of two ranks."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(work(*given, folder / "two"), folder / f"rank{rank}.pt")
    dist.destroy_process_group()
