"""Storage is tried as runs use it, on real folders; nothing is left there."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.launch.doctor import storage
from harness.launch.doctor.storage import answer, keeps, meeting, visit


def test_a_folder_that_keeps_what_is_written(tmp_path: Path) -> None:
    """Said with its time; also one that will only be made. Neither it nor anything in it is left."""
    found = keeps("HARNESS_HOME", tmp_path)
    assert (found.name, found.state) == ("HARNESS_HOME", "ok")
    assert found.found.startswith(f"{tmp_path}: ")
    later = keeps("HARNESS_HOME", tmp_path / "not" / "yet")
    assert (later.state, "(will be made)" in later.found) == ("ok", True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Where not even root may write, and where a file is in the way."""
    kernel = keeps("HARNESS_HOME", Path("/sys/kernel"))
    assert (kernel.state, kernel.remedy.startswith("name another folder with HARNESS_HOME")) == ("fail", True)
    assert kernel.found.startswith("/sys/kernel cannot be written (")
    (tmp_path / "file").write_text("")
    assert keeps("HARNESS_DATA", tmp_path / "file" / "data").state == "fail"


def test_storage_that_is_not_shared(tmp_path: Path) -> None:
    """A node on which the same path is another folder does not find the word, or finds another."""
    (tmp_path / "driver").mkdir()
    with meeting("HARNESS_HOME", tmp_path / "driver") as place:
        other = visit(replace(place, path=tmp_path / "node"), "node")
        assert (other.state, "is not shared" in other.found) == ("fail", True)
        assert visit(replace(place, word="another"), "node").state == "fail"
        assert not answer(place, "node").exists()


def test_two_visitors_answer_and_one_is_first(tmp_path: Path) -> None:
    """Each answer is its visitor's own, and a file that both would create is created once."""
    with meeting("HARNESS_HOME", tmp_path) as place:
        assert [visit(place, name).state for name in ("one", "two")] == ["ok", "ok"]
        told = [json.loads(answer(place, name).read_text()) for name in ("one", "two")]
    assert [one["first"] for one in told] == [True, False]
    assert {one["word"] for one in told} == {place.word}
    assert list(tmp_path.iterdir()) == []


def test_slow_storage_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An fsync that takes its time is timed with the rest."""
    real = storage.os.fsync

    def slow(number: int) -> None:
        time.sleep(0.05)
        real(number)

    monkeypatch.setattr(storage.os, "fsync", slow)
    monkeypatch.setattr(storage, "SLOW_SECONDS", 0.09)
    found = keeps("HARNESS_HOME", tmp_path)
    assert (found.state, "holds up leases" in found.found) == ("warn", True)


@pytest.mark.parametrize(("ahead", "said"), [(-90.0, "90 s behind"), (7.0, "7 s ahead")])
def test_a_clock_that_differs(ahead: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage's clock against the node's: leases go by the first, times in records by the second."""
    monkeypatch.setattr(storage, "storage_time", lambda _: time.time() + ahead)
    found = keeps("HARNESS_HOME", tmp_path)
    assert (found.state, said in found.found, "NTP" in found.remedy) == ("warn", True, True)


def test_a_file_that_can_be_created_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where O_EXCL does not hold, two sweeps could train one run."""
    real, excl = storage.os.open, storage.os.O_EXCL
    monkeypatch.setattr(storage.os, "open", lambda path, flags, *mode, **at: real(path, flags & ~excl, *mode, **at))
    found = keeps("HARNESS_HOME", tmp_path)
    assert (found.state, "created twice" in found.found) == ("fail", True)
