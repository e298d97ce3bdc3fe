"""Linear evaluations that see the same features: same encoder, same views in the same order, updates of the same size.

Companions differ in what happens to the features: loss, learning rates, optimizer. Whoever takes up one of them takes
the others along, so that the encoder runs once for all; what each is, and what it finds, does not depend on that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from harness.config.schema import Linear, LinearData, Spec

Stream = tuple[str, LinearData, int, int, int]


def stream_of(spec: Spec) -> Stream | None:
    """What decides the features that an evaluation sees, and when; None where there are none to share."""
    return (spec.subject, spec.data, spec.seed, spec.epochs, spec.batch) if isinstance(spec, Linear) else None


def companions(specs: Mapping[str, Spec]) -> dict[str, tuple[str, ...]]:
    """The keys of each run's companions among `specs`, in their order; no entry for a run that has none."""
    streams: defaultdict[Stream, list[str]] = defaultdict(list)
    for key, spec in specs.items():
        stream = stream_of(spec)
        if stream is not None:
            streams[stream].append(key)
    groups = [keys for keys in streams.values() if len(keys) > 1]
    return {key: tuple(other for other in keys if other != key) for keys in groups for key in keys}
