"""Specs of runs as files, where their workers look for them."""

from __future__ import annotations

import json

from harness.config.durable import write_json
from harness.config.identity import plain, run_key
from harness.config.schema import Spec
from harness.config.structure import structure
from harness.tracking.record import Runs


def write_spec(runs: Runs, spec: Spec) -> str:
    """Put a spec where its worker looks for it; returns its key."""
    key = run_key(spec)
    path = runs.folder(key) / "spec.json"
    if not path.exists():
        write_json(path, plain(spec))
    return key


def read_spec(runs: Runs, key: str) -> Spec:
    return spec_from(json.loads((runs.folder(key) / "spec.json").read_text(encoding="utf-8")))


def spec_from(raw: object) -> Spec:
    """A spec from its plain form."""
    spec: Spec = structure(Spec, raw)  # type: ignore[arg-type]  # a union of types
    return spec
