"""Taking runs out of the tables, and what nobody needs off the disk."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.errors import ConfigError
from harness.config.expand import Expansion, expand
from harness.config.identity import run_key
from harness.config.schema import Imported, Linear, Pretrain
from harness.launch.housekeeping import FEATURES, NETWORK, retire, rubbish
from harness.launch.place import Place
from harness.launch.plan import status
from harness.launch.specs import write_spec
from harness.launch.task import execute
from harness.tracking.lease import Lease
from harness.tracking.record import Record, Runs
from harness.tracking.store import MemoryStore
from harness.tracking.sync import sync

Tiny = tuple[Pretrain, Linear]


def test_a_retired_run_takes_its_evaluations_along(
    runs: Runs, two_cells: Expansion, write: Callable[..., Record]
) -> None:
    """What was measured of a retired encoder stands for nothing; other runs stay."""
    for member in two_cells.members[:2]:
        write(member.subject, "done")
        write(member.evaluation, "done")
    mine, other = two_cells.members[:2]
    retired = retire(runs, mine.subject_key, "wrong data")
    assert {record.key for record in retired} == {mine.subject_key, mine.evaluation_key}
    for member, expected in ((mine, "missing"), (other, "done")):
        assert status(runs, member.subject_key, member.subject) == expected
        assert status(runs, member.evaluation_key, member.evaluation) == expected
    record = runs.read(mine.subject_key)
    assert record is not None
    assert record.error == "wrong data"


def test_a_retired_candidate_takes_the_choice_along(runs: Runs, write: Callable[..., Record]) -> None:
    """A choice among other networks is another one; the other candidates and the subject stay."""
    member = expand("8", "laptop", seeds=1, cell="byol").members[0]
    for spec in member.specs.values():
        write(spec, "done")
    first, second = (run_key(candidate) for candidate in member.candidates)
    assert {record.key for record in retire(runs, first, "wrong")} == {first, member.evaluation_key}
    assert status(runs, second, member.candidates[1]) == "done"
    assert {record.key for record in retire(runs, member.subject_key, "wrong")} == set(member.keys)


def test_networks_go_when_no_choice_awaits_them(runs: Runs, write: Callable[..., Record], tmp_path: Path) -> None:
    """The largest files of a fine-tuning: the record of each candidate stays, and what a choice still needs."""
    member = expand("8", "laptop", seeds=1, cell="byol").members[0]
    for spec in member.specs.values():
        write(spec, "done")
    networks = [runs.folder(run_key(candidate)) / NETWORK for candidate in member.candidates]
    for path in networks:
        path.write_bytes(b"0" * 1000)
    awaited = list(rubbish(runs, tmp_path / "ray", member.keys, set(member.keys)))
    assert awaited == []
    made = list(rubbish(runs, tmp_path / "ray", member.keys))
    assert [(one.path, one.bytes, one.why) for one in made] == [
        (path, 1000, "the choice is made") for path in sorted(networks)
    ]
    for one in made:
        one.remove()
    assert all(runs.read(key) is not None for key in member.keys)
    assert not any(path.exists() for path in networks)


def test_features_go_when_no_evaluation_awaits_them(
    runs: Runs, tiny: Tiny, write: Callable[..., Record], tmp_path: Path
) -> None:
    """They can be computed again; the encoder stays, an imported one too, though no table needs it."""
    imported = Imported(kind="imported", encoder="resnet_tiny", width=1, padding="torch", tensors_sha256="0" * 64)
    keys = [write(tiny[0], "done").key, write(imported, "done").key]
    folders = [runs.folder(key) / FEATURES for key in keys]
    for folder in folders:
        folder.mkdir()
        (folder / "digits-train-0123456789abcdef.safetensors").write_bytes(b"0" * 1000)
        (folder.parent / "encoder.safetensors").write_bytes(b"0")
    assert list(rubbish(runs, tmp_path / "ray", {keys[0]}, set(keys))) == []
    found = list(rubbish(runs, tmp_path / "ray", {keys[0]}))
    assert [(one.path, one.bytes, one.why) for one in found] == [
        (folder, 1000, "no evaluation on them is left") for folder in sorted(folders)
    ]
    for one in found:
        one.remove()
    assert all((folder.parent / "encoder.safetensors").exists() for folder in folders)
    assert list(rubbish(runs, tmp_path / "ray", {keys[0]})) == []


def test_features_of_a_run_no_table_needs_go_with_it(
    runs: Runs, tiny: Tiny, write: Callable[..., Record], tmp_path: Path
) -> None:
    """Its folder is named once, with all its bytes."""
    folder = runs.folder(write(tiny[0], "done").key)
    (folder / FEATURES).mkdir()
    (folder / FEATURES / "file").write_bytes(b"0" * 1000)
    (found,) = rubbish(runs, tmp_path / "ray", set())
    assert found.path == folder
    assert found.bytes > 1000


def test_a_retired_run_begins_anew(runs: Runs, place: Place, tiny: Tiny) -> None:
    """The next attempt starts from nothing; the former one is kept aside, and in the store under another name."""
    store = MemoryStore()
    key = write_spec(runs, tiny[0])
    first = execute(key, place)
    (runs.folder(key) / FEATURES).mkdir()
    sync(runs, store, [key])
    retire(runs, key, "try again")
    sync(runs, store, [key])
    assert store.runs[key].state == "retired"
    again = execute(key, place)
    assert again.started_unix_s > first.started_unix_s
    assert again.results == first.results
    aside = runs.folder(key) / "retired-1"
    assert {"record.json", "spool.jsonl", "encoder.safetensors", "checkpoints", FEATURES} <= {
        p.name for p in aside.iterdir()
    }
    assert not (runs.folder(key) / FEATURES).exists(), "they are those of the former encoder"
    sync(runs, store, [key])
    assert store.runs[key].state == "done"
    assert len(store.points[key]) == len({(step, name) for _, step, name in store.points[key]}), "one curve, not two"


def test_what_cannot_be_retired(runs: Runs, tiny: Tiny, write: Callable[..., Record]) -> None:
    """A key that does not exist, and a run somebody works on."""
    with pytest.raises(ConfigError, match="there is no run nonsense"):
        retire(runs, "nonsense", "why not")
    record = write(tiny[0], "running")
    lease = Lease(runs.folder(record.key))
    assert lease.acquire()
    with pytest.raises(ConfigError, match="is running"):
        retire(runs, record.key, "why not")
    lease.release()


def test_rubbish(runs: Runs, tiny: Tiny, write: Callable[..., Record], tmp_path: Path) -> None:
    """Runs of no table, retired attempts, checkpoints of finished runs, half-written files and Ray's leavings go; the
    rest stays.
    """
    needed, spare = write(tiny[0], "done"), write(tiny[1], "done")
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    half = f".encoder.{socket.gethostname()}.{ended.pid}"
    going = {
        runs.folder(spare.key): "no table needs it",
        runs.folder(needed.key) / half: "half-written by a process that was killed",
        runs.folder(needed.key) / "retired-1": "retired",
        runs.folder(needed.key) / "checkpoints": "the run is done",
        tmp_path / "ray" / "sweep-1": "left by a sweep that was killed",
    }
    for folder in going:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bulk").write_bytes(b"0" * 1000)
    found = {one.path: one for one in rubbish(runs, tmp_path / "ray", {needed.key})}
    assert {path: one.why for path, one in found.items()} == going
    assert found[tmp_path / "ray" / "sweep-1"].bytes == 1000
    for one in found.values():
        one.remove()
    assert not any(folder.exists() for folder in going)
    assert runs.read(needed.key) == needed
    assert list(rubbish(runs, tmp_path / "ray", {needed.key})) == []


def test_what_somebody_works_on_is_no_rubbish(
    runs: Runs, tiny: Tiny, write: Callable[..., Record], tmp_path: Path
) -> None:
    """Neither a running run nor what Ray keeps for its sweep is removed."""
    record = write(tiny[0], "running")
    (tmp_path / "ray" / "sweep-1").mkdir(parents=True)
    lease = Lease(runs.folder(record.key))
    assert lease.acquire()
    assert list(rubbish(runs, tmp_path / "ray", set())) == []
    lease.release()
    assert len(list(rubbish(runs, tmp_path / "ray", set()))) == 2
