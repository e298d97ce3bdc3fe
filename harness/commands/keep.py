"""What is kept: datasets, encoders from elsewhere, the tracking store, and the folder of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.commands.chosen import all_plans, say, warn
from harness.commands.report import open_store
from harness.config.errors import ConfigError
from harness.config.masked import masked
from harness.launch import housekeeping
from harness.launch.plan import Plan, needs
from harness.launch.site import Site, commit, site
from harness.tracking.results import Live
from harness.tracking.snapshot import write_snapshot
from harness.tracking.store import Store, StoreError
from harness.tracking.sync import sync


def prepare(dataset: str | None, **options: Any) -> int:
    """Write a dataset's files, add lists to it, or check it; without a name, list the datasets."""
    from harness.launch import data  # noqa: PLC0415  # readers, numpy

    return data.prepare(dataset, data.Wanted(**options), site(), say)


def import_encoder(file: Path, name: str) -> int:
    """Keep an encoder from elsewhere as a finished run."""
    from harness.launch import exchange  # noqa: PLC0415  # torch

    return exchange.import_encoder(file, name, site(), say)


def export_encoder(key: str, form: str, out: Path | None) -> int:
    """Write the encoder of a run for others to load."""
    from harness.launch import exchange  # noqa: PLC0415  # torch

    return exchange.export_encoder(key, form, out, site(), say)


def sync_all(rebuild: bool) -> int:
    """Send every record and spool; safe to repeat."""
    here = site()
    changed = _synced(open_store(here), here, all_plans(here), rebuild)
    say(f"{len(changed)} of {len(here.runs.keys())} runs sent to {masked(here.tracking_uri)}")
    return 0


def _synced(store: Store, here: Site, plans: Sequence[Plan], rebuild: bool = False) -> list[str]:
    labels = {key: own for plan in plans for key, own in plan.labels().items()}
    try:
        return sync(here.runs, store, here.runs.keys(), labels, warn, rebuild)
    except StoreError as error:
        raise ConfigError(f"{error}; nothing is lost, try again when it answers") from None


def export_results(file: Path) -> int:
    """Write all that reports need of every run of every table into one file."""
    here = site()
    store, plans = open_store(here), all_plans(here)
    _synced(store, here, plans)
    keys = {key for plan in plans for key in (*(run.key for run in plan.runs), *plan.subjects)}
    written = write_snapshot(file, Live(store, here.runs), keys, commit())
    size = file.stat().st_size / 1e6
    say(f"{written} runs in {file}, {size:.1f} MB; `harness report --from {file}` rebuilds the tables")
    return 0


def retire(key: str, reason: str) -> int:
    """Take a run out of the tables; the next sweep that needs it starts it anew."""
    here = site()
    retired = housekeeping.retire(here.runs, key, reason)
    for one in retired:
        say(f"retired {one.kind} {one.key}")
    try:
        sync(here.runs, open_store(here), [one.key for one in retired], warn=warn)
    except StoreError as error:
        raise ConfigError(f"{error}; the records say retired, `harness sync` tells MLflow later") from None
    return 0


def gc(dry_run: bool) -> int:
    """Remove what no table needs at any profile."""
    here = site()
    plans = all_plans(here)
    needed = {key for plan in plans for key in (*(run.key for run in plan.runs), *plan.subjects)}
    awaited = {key for plan in plans for run in plan.missing for key in needs(run.spec)}
    rubbish = list(housekeeping.rubbish(here.runs, here.ray, needed, awaited))
    for one in rubbish:
        say(f"{one.bytes / 1e6:9.1f} MB  {one.path}  ({one.why})")
        if not dry_run:
            one.remove()
    freed = sum(one.bytes for one in rubbish)
    say(f"{freed} bytes in {len(rubbish)} places {'would be' if dry_run else 'were'} freed")
    return 0
