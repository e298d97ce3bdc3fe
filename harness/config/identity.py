"""The key of a run: a hash of the canonical JSON of its spec.

One meaning, one form: `canonical` nulls every knob that has no effect, so that cells which describe the same run in
different words share one key. A schema field added later declares `metadata={"neutral": value}` and is left out of the
JSON while it has that value, so older keys stay what they were.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import fields, is_dataclass, replace
from typing import Any

from harness.config.schema import Linear, LinearData, Pretrain, Spec, View, Views

KEY_LENGTH = 16  # hexadecimal digits: 64 bits, no collision among any number of runs a person will make


def canonical(spec: Spec) -> Spec:
    """The one form of all specs that mean the same run."""
    if isinstance(spec, Linear):
        return replace(spec, data=replace(spec.data, view=_beside_crop_and_flip(spec.data)))
    if not isinstance(spec, Pretrain):
        return spec
    objective, model = spec.objective, spec.model
    if objective.target == "ema" and objective.tau_base == 1.0:  # an average that never moves
        objective = replace(objective, target="constant")
    if objective.target != "ema":
        objective = replace(objective, tau_base=None, tau_schedule="cosine")
    if objective.beta == 0.0:
        objective = replace(objective, temperature=None, scaled=True)
    if not objective.predictor or objective.predictor_fit == "least_squares":
        model = replace(model, predictor=None)
    views = Views(first=_active(spec.data.views.first), second=_active(spec.data.views.second))
    return replace(spec, objective=objective, model=model, data=replace(spec.data, views=views))


def _beside_crop_and_flip(data: LinearData) -> View | None:
    """The view of a linear evaluation, of which crop and flip are not read; None where no other operation is left."""
    if data.view is None:
        return None
    view = _active(replace(data.view, crop_area=data.crop_area, flip=data.flip))
    return view if view.jitter or view.grayscale or view.blur or view.solarize or view.operations else None


def _active(view: View) -> View:
    """Ranges that nothing is drawn from are points."""
    if view.jitter == 0.0:
        view = replace(view, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    if view.operations == 0:
        view = replace(view, magnitude=0)
    return replace(view, blur_sigma=(1.0, 1.0)) if view.blur == 0.0 else view


def plain(value: Any) -> Any:
    """`value` as JSON types; raises on anything that has no canonical form."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in fields(value)
            if "neutral" not in field.metadata or getattr(value, field.name) != field.metadata["neutral"]
        }
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise TypeError(f"only text keys have a canonical form, not {list(value)!r}")
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no canonical form")
        return value + 0.0  # -0.0 is 0.0
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"{type(value).__name__} has no canonical form: {value!r}")


def canonical_json(spec: Spec) -> str:
    return json.dumps(plain(canonical(spec)), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def run_key(spec: Spec) -> str:
    """The name of the run everywhere: directory, record, MLflow tag, table."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()[:KEY_LENGTH]
