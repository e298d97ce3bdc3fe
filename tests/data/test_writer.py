"""Writing .beton files, and that a dead writer is an error and not a wait for ever."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from harness.data import writer
from harness.data.beton import Beton
from harness.data.errors import DataError

pytestmark = pytest.mark.ffcv
IMAGES = np.random.default_rng(0).integers(0, 256, (150, 5, 7, 3), dtype=np.uint8)
LABELS = np.arange(150)


class Raising(writer.Samples):
    """A source with an unreadable image."""

    def __getitem__(self, position: int) -> tuple[np.ndarray, int, int]:
        """Fail in the second chunk of work."""
        if position == 120:
            raise OSError("image 120 is unreadable")
        return super().__getitem__(position)


class Dying(writer.Samples):
    """A source that takes its process with it, as the kernel does when memory runs out."""

    def __getitem__(self, position: int) -> tuple[np.ndarray, int, int]:
        """Die at once."""
        os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(position)


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    """Protects sizes that are not square and not multiples of anything."""
    writer.write(tmp_path / "a.beton", IMAGES, LABELS)
    beton = Beton(tmp_path / "a.beton")
    np.testing.assert_array_equal(beton.pixels(np.arange(150)), IMAGES)
    np.testing.assert_array_equal(beton.labels, LABELS)
    assert (tmp_path / "a.beton").stat().st_size < 5 << 20


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("samples", "words"), [(Raising, "OSError: image 120 is unreadable"), (Dying, "status 9")])
def test_a_dead_writer_is_an_error(
    samples: type, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Protects `prepare` from FFCV's endless wait when a worker dies, and says what killed it."""
    monkeypatch.setattr(writer, "Samples", samples)
    with pytest.raises(DataError, match=words):
        writer.write(tmp_path / "a.beton", IMAGES, LABELS)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES[..., 0], LABELS, "uint8"),
        (IMAGES.astype(np.float32), LABELS, "uint8"),
        (IMAGES[:0], LABELS[:0], "uint8"),
        (IMAGES, LABELS[:-1], "as many labels"),
    ],
)
def test_wrong_input_is_refused_before_writing(
    images: np.ndarray, labels: np.ndarray, words: str, tmp_path: Path
) -> None:
    """Protects FFCV's workers from what kills them."""
    with pytest.raises(DataError, match=words):
        writer.write(tmp_path / "a.beton", images, labels)
    assert not list(tmp_path.iterdir())


def test_without_ffcv_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a machine without FFCV, which can train but not prepare."""
    monkeypatch.setattr(writer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install"):
        writer.write(tmp_path / "a.beton", IMAGES, LABELS)
