"""Whether the data that runs need is prepared, and whole by the sizes of its files.

`harness prepare NAME --check` looks at every image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.config.datasets import STAND_IN
from harness.config.errors import ConfigError
from harness.config.finding import Finding, fail, ok
from harness.config.schema import Finetune
from harness.data.catalogue import generated
from harness.data.dataset import open_dataset
from harness.data.errors import DataError
from harness.launch.data import check_lists
from harness.launch.plan import Plan
from harness.launch.site import Site


def datasets(plan: Plan, counted: Iterable[str], here: Site) -> Iterator[Finding]:
    """A finding a dataset of the runs that are left, and of those whose images a table counts."""
    wanted = {run.dataset for run in plan.missing} | set(counted)
    if not wanted:
        yield ok("dataset", "none is needed")
    for name in sorted(wanted):
        yield _looked_at(f"dataset {name}", name, plan, here)


def _looked_at(title: str, name: str, plan: Plan, here: Site) -> Finding:
    try:
        return ok(title, _described(name, plan, here))
    except DataError as error:
        if generated(name):
            return ok(title, "generated on first use")
        problem = str(error)
    except ConfigError as error:
        problem = str(error)
    found, _, remedy = problem.rpartition("; ")
    return fail(title, found, remedy)


def _described(name: str, plan: Plan, here: Site) -> str:
    """Of a prepared one; DataError or ConfigError, with the command that mends it, where runs would not take it."""
    manifest = open_dataset(name, here.data).manifest
    tuned = {run.spec.data.train for run in plan.missing if isinstance(run.spec, Finetune) and run.dataset == name}
    check_lists({(name, split) for split in tuned if not split.startswith("balanced-")}, here)  # a sweep draws those
    kind = "stand-in" if name.endswith(STAND_IN) else f"from {manifest.source}" if manifest.source else "built in"
    images = ", ".join(f"{count} {split}" for split, count in manifest.counts.items())
    return f"{images} images, {kind}"
