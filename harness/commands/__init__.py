"""What each verb does, in terms of the rooms."""

from __future__ import annotations

from collections.abc import Callable

from harness.commands.doctor import doctor
from harness.commands.keep import export_encoder, export_results, gc, import_encoder, prepare, retire, sync_all
from harness.commands.plan import plan, status
from harness.commands.report import explain, report
from harness.commands.run import run
from harness.commands.sites import show_site

VERBS: dict[str, Callable[..., int]] = {
    "run": run,
    "plan": plan,
    "report": report,
    "status": status,
    "explain": explain,
    "doctor": doctor,
    "site": show_site,
    "prepare": prepare,
    "import": import_encoder,
    "export": export_encoder,
    "export-results": export_results,
    "sync": sync_all,
    "retire": retire,
    "gc": gc,
}
