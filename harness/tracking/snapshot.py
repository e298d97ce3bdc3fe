"""Everything reports need of a set of runs, in one JSON file: docs/results-file.md says what stands where.

Tables rebuilt from it are those built from the store, to the byte. Written whole or not at all, the same bytes for the
same runs, compressed where its name ends in .gz.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from harness.config.bounded import TooLargeError, read_bounded
from harness.config.document import shown
from harness.config.durable import write_durably
from harness.config.errors import ConfigError
from harness.config.masked import masked
from harness.config.structure import StructureError, structure
from harness.tracking.record import Record
from harness.tracking.results import Results
from harness.tracking.spool import Point
from harness.tracking.store import Stored

FORM = 1  # moves when a reader of this form would misread the file
LARGEST = 1_000_000_000  # bytes, unpacked: those of ten thousand runs with long curves
_HEAD = ("form", "commit", "uri", "runs")
_ZIPPED = b"\x1f\x8b"
_NOT_FINITE = "not_finite"  # JSON knows neither NaN nor infinity


class Snapshot:
    """Results from such a file. What it says of a run is read when that run is first asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        raw = _parsed(path)
        self.commit: str = raw["commit"]
        self._uri: str = raw["uri"]
        self._runs: dict[str, dict[str, Any]] = raw["runs"]

    @property
    def uri(self) -> str:
        return self._uri

    def keys(self) -> list[str]:
        return list(self._runs)

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        wanted = {key: self._part(key, "stored") for key in keys}
        return {key: self._as(Stored, key, "stored", told) for key, told in wanted.items() if told is not None}

    def record(self, key: str) -> Record | None:
        told = self._part(key, "record")
        return None if told is None else self._as(Record, key, "record", told)

    def curve(self, key: str) -> list[Point]:
        told = self._part(key, "curve")
        try:
            return [] if told is None else list(_points(told))
        except (LookupError, TypeError, ValueError, AttributeError):
            raise ConfigError(f"{shown(self._path)}: runs.{key}.curve: is no curve; export the results again") from None

    def folder(self, _key: str) -> Path | None:
        return None

    def _part(self, key: str, part: str) -> Any:
        return self._runs.get(key, {}).get(part)

    def _as(self, cls: type[Any], key: str, part: str, told: object) -> Any:
        try:
            return structure(cls, told)
        except StructureError as error:
            raise ConfigError(f"{shown(self._path)}: runs.{key}.{part}.{error}; export the results again") from None


def write_snapshot(path: Path, results: Results, keys: Iterable[str], commit: str) -> int:
    """Write what `results` know of `keys`; the number of runs of which they know anything."""
    wanted = sorted(set(keys))
    found = results.find(wanted)
    runs = {key: run for key in wanted if (run := _run(key, found.get(key), results))}
    head = {"form": FORM, "commit": commit, "uri": masked(results.uri)}

    def write(file: BinaryIO) -> None:
        zipped = gzip.GzipFile("", "wb", mtime=0, fileobj=file) if path.name.endswith(".gz") else nullcontext(file)
        with zipped as out:
            out.write(_json(head)[:-1].encode() + b', "runs": {')
            for number, (key, run) in enumerate(runs.items()):
                run["digest"] = _digest(run)
                out.write(f"{',' if number else ''}\n{_json(key)}: {_json(run)}".encode())
            out.write(b"\n}}\n")

    write_durably(path, write)
    return len(runs)


def _run(key: str, stored: Stored | None, results: Results) -> dict[str, Any]:
    """What is known, part by part. Tags are for people who look into MLflow: they stay there."""
    record, points = results.record(key), results.curve(key)
    told: dict[str, Any] = {}
    if stored is not None:
        told["stored"] = {**asdict(stored), "labels": {}, "stamp": ""}
    if record is not None:
        told["record"] = asdict(record)
    if points:
        told["curve"] = _columns(points)
    return {part: _finite(value) for part, value in told.items()}


def _columns(points: list[Point]) -> dict[str, Any]:
    """A column a metric, null where a point has none of it: names stand once."""
    names = sorted({name for point in points for name in point.metrics})
    return {
        "time_unix_ms": [point.time_unix_ms for point in points],
        "step": [point.step for point in points],
        "metrics": {name: [point.metrics.get(name) for point in points] for name in names},
    }


def _points(columns: dict[str, Any]) -> Iterator[Point]:
    metrics = columns["metrics"]
    for row, (time_unix_ms, step) in enumerate(zip(columns["time_unix_ms"], columns["step"], strict=True)):
        told = {name: values[row] for name, values in metrics.items() if values[row] is not None}
        if not all(isinstance(number, int | float) for number in (time_unix_ms, step, *told.values())):
            raise TypeError("a point has what is no number")
        yield Point(time_unix_ms, step, told)


def _finite(value: Any) -> Any:
    """`value` with every NaN and infinity as {"not_finite": "nan"}."""
    if isinstance(value, float) and not math.isfinite(value):
        return {_NOT_FINITE: repr(value)}
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _number(told: dict[str, Any]) -> Any:
    return float(told[_NOT_FINITE]) if told.keys() == {_NOT_FINITE} else told


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _digest(run: dict[str, Any]) -> str:
    """Of everything that is said of a run: a damaged digit must not become a result."""
    return hashlib.sha256(_json(_finite({part: run[part] for part in run if part != "digest"})).encode()).hexdigest()[
        :16
    ]


def _parsed(path: Path) -> dict[str, Any]:
    """The file's content, as it was written."""
    where = shown(path)
    raw = _load(_content(path), where)
    if not isinstance(raw, dict) or "form" not in raw:
        raise ConfigError(f"{where} is no results file; `harness export-results` writes one")
    if raw["form"] != FORM:
        raise ConfigError(
            f"{where} is of form {raw['form']}, this harness reads form {FORM}; use the version that wrote it"
        )
    for name in _HEAD:
        if not isinstance(raw.get(name), dict if name == "runs" else int if name == "form" else str):
            raise ConfigError(f"{where}: {name}: is missing or damaged; export the results again")
    for key, run in raw["runs"].items():
        if not _whole(run):
            raise ConfigError(f"{where}: runs.{key}: is damaged, its digest differs; export the results again")
    return raw


def _whole(run: object) -> bool:
    """Whether it is what was said of a run, to the last digit."""
    try:
        return isinstance(run, dict) and run.get("digest") == _digest(run)
    except RecursionError:  # on the way to the end of it: nothing that was written nests so deeply
        return False


def _load(content: bytes, where: str) -> Any:
    try:
        return json.loads(content, object_hook=_number)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}:{error.lineno}: not valid JSON: {error.msg}; export the results again") from None
    except RecursionError:
        raise ConfigError(f"{where}: nests too deeply; export the results again") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: is damaged ({error}); export the results again") from None


def _content(path: Path) -> bytes:
    try:
        content = read_bounded(path, LARGEST)
        if not content.startswith(_ZIPPED):
            return content
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(LARGEST + 1)
        if len(unpacked) > LARGEST:
            raise TooLargeError(LARGEST)
        return unpacked
    except TooLargeError as error:
        raise ConfigError(f"{shown(path)} {error}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigError(f"{shown(path)}: is damaged ({error}); export the results again") from None
    except OSError as error:
        raise ConfigError(f"{shown(path)} cannot be read ({error.strerror})") from None
