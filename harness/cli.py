"""The command line: parses and delegates. Exit codes: 0 done, 1 a run failed or lacks data, 2 a command is wrong."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from harness import __version__
from harness.config.errors import ConfigError
from harness.launch.ending import KEPT

_NAMES = "tables (table5b, 5b, table14 for its parts), figures (figure3a, figures), or `tables` for everything"


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command, as for any other mistake."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")


def _parser() -> _Parser:
    parser = _Parser(prog="harness", description="Regenerates the tables of the BYOL paper from runs.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    scaled = _Parser(add_help=False)
    scaled.add_argument("--profile", default=os.environ.get("PROFILE") or "laptop", help="scale (default: %(default)s)")
    scaled.add_argument("--seeds", type=_positive, default=None, help="the first N of the declared seeds")
    scaled.add_argument("--cell", default=None, help="this cell alone")
    chosen = _Parser(add_help=False, parents=[scaled])
    chosen.add_argument("names", nargs="*", metavar="NAME", help=f"{_NAMES} (default: everything)")
    as_json = _Parser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON")

    run = verbs.add_parser("run", parents=[scaled], help="run what is missing, then report")
    run.add_argument("names", nargs="+", metavar="NAME", help=_NAMES)  # nobody starts everything by leaving it out
    plan = verbs.add_parser("plan", parents=[chosen, as_json], help="what would run and its cost; starts nothing")
    _add_plan(plan)
    report = verbs.add_parser("report", parents=[chosen], help="render from what is finished")
    report.add_argument(
        "--from",
        dest="results_file",
        type=Path,
        metavar="FILE",
        help="read a file of `export-results`, not the runs",
    )
    verbs.add_parser("status", parents=[chosen, as_json], help="how far the runs are")
    verbs.add_parser("doctor", parents=[chosen, as_json], help="whether that can run here, and what to mend first")
    explain = verbs.add_parser(
        "explain", parents=[as_json], help="the runs behind a cell, as in `explain table5b:byol`"
    )
    explain.add_argument("cell", metavar="TABLE:CELL")
    explain.add_argument("--profile", default=os.environ.get("PROFILE") or "laptop")
    where = verbs.add_parser("site", help="where this site keeps things, and which variable or line says so")
    where.add_argument("key", nargs="?", metavar="KEY", help="print this value alone: home, data, tracking_uri ...")
    prepare = verbs.add_parser("prepare", help="write a dataset's files, from its owner's; without a name, list them")
    _add_prepare(prepare)
    results = verbs.add_parser("export-results", help="write all that reports need of every run into one file")
    results.add_argument("file", type=Path, metavar="FILE.json[.gz]")
    sync = verbs.add_parser("sync", help="send every record and spool to MLflow")
    sync.add_argument("--rebuild", action="store_true", help="take every run out of MLflow first and send it anew")
    retire = verbs.add_parser("retire", help="take a run, and what evaluates it, out of the tables")
    retire.add_argument("key")
    retire.add_argument("--reason", required=True, help="kept in the record and in MLflow")
    gc = verbs.add_parser("gc", help="remove what no table needs: other runs, retired ones, spent checkpoints")
    gc.add_argument("--dry-run", action="store_true", help="say what would go, and how many bytes")
    imports = verbs.add_parser("import", help="keep an encoder from elsewhere as a run, under a name for tables")
    imports.add_argument("file", type=Path, help="DeepMind's BYOL (.pkl), SimCLR's (.index), or a ResNet's state dict")
    imports.add_argument("--as", dest="name", required=True, metavar="NAME")
    export = verbs.add_parser("export", help="write the encoder of a run for others to load")
    export.add_argument("key")
    export.add_argument("--format", dest="form", choices=["torchvision", "timm", "safetensors"], required=True)
    export.add_argument("--out", type=Path, default=None, metavar="FILE", help="default: the encoder and the key, here")
    train = verbs.add_parser("train", help="run one resolved spec here, with torch alone")
    train.add_argument("spec", type=Path, metavar="SPEC.json")
    train.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ... (default: %(default)s)")
    train.add_argument("--threads", type=_positive, default=1, help="CPU threads (default: %(default)s)")
    home = Path(os.environ.get("HARNESS_HOME") or ".harness")
    train.add_argument("--home", type=Path, default=home, help="where runs/ is (default: %(default)s)")
    data = os.environ.get("HARNESS_DATA")
    train.add_argument("--data", type=Path, default=Path(data) if data else None, help="default: data/ in --home")
    return parser


def _add_plan(plan: argparse.ArgumentParser) -> None:
    plan.add_argument("--gpu", metavar="NAME", help="reckon on this machine of experiments/machines.yaml, as h100")
    plan.add_argument("--gpus", type=_positive, metavar="N", help="say how long a cluster of N devices takes")
    plan.add_argument("--gpus-per-run", type=_positive, metavar="N", help="of those, for each run (default: 1)")
    plan.add_argument("--budget-gpu-hours", type=_hours, metavar="H", help="say which tables H device-hours complete")
    plan.add_argument("--runs", action="store_true", help="list every run, also of several tables")


def _add_prepare(prepare: argparse.ArgumentParser) -> None:
    prepare.add_argument("dataset", nargs="?", help="food101, food101-stand-in, food101-500px ...")
    prepare.add_argument("--source", type=Path, metavar="FOLDER", help="where the owner's files are")
    prepare.add_argument("--stand-in", action="store_true", help="a small generated dataset in the same layout")
    prepare.add_argument(
        "--longest-side", type=_positive, metavar="N", help="store images with at most N pixels a side"
    )
    prepare.add_argument("--skip-broken", action="store_true", help="leave out images that cannot be decoded")
    prepare.add_argument("--check", action="store_true", help="verify what is prepared, down to every image")
    prepare.add_argument(
        "--list",
        dest="lists",
        type=_titled,
        action="append",
        default=[],
        metavar="LIST=FILE",
        help="add a subset, from a file of image names",
    )


def _titled(text: str) -> tuple[str, Path]:
    title, equals, file = text.partition("=")
    if not (title and equals and file):
        raise argparse.ArgumentTypeError(f"must be LIST=FILE as in simclr-1=1percent.txt, not {text!r}")
    return title, Path(file)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _hours(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of hours, 0 or more, not {text!r}")
    return number


def main(arguments: list[str] | None = None) -> int:
    """Run one command; errors a person can mend are one line on stderr."""
    try:
        parsed = _parser().parse_args(arguments)
        options = {name: value for name, value in vars(parsed).items() if name != "verb"}
        if parsed.verb == "train":  # must start where PyYAML, Ray and MLflow are not installed
            from harness.launch.standalone import train  # noqa: PLC0415

            return train(**options)
        from harness import commands  # noqa: PLC0415

        return commands.VERBS[parsed.verb](**options)
    except ConfigError as error:
        print(f"harness: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed goes nowhere
        return 0
    except KeyboardInterrupt as end:
        print(f"harness: stopped; {KEPT}", file=sys.stderr)
        return 128 + getattr(end, "signal", signal.SIGINT)
