"""`moodbench leaderboard` prints the leaderboard of a store; `moodbench report` and `export` write it to files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from moodbench.cli.options import add_options, existing_store, print_json, weights_of
from moodbench.errors import UsageError
from moodbench.hardware import hardware
from moodbench.report.files import FORMATS, REPORT, write
from moodbench.report.formatting import MORE_COLUMNS, columns_with, csv_of
from moodbench.report.leaderboard_view import EXPORTED, LeaderboardView, view_leaderboard
from moodbench.report.terminal import make_console, print_failures, print_leaderboard
from moodbench.store import Store
from moodbench.store.location import LocalLocation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = "`moodbench leaderboard`: print the leaderboard of a store."
    add_options(parser, "--store", "--json")
    parser.add_argument("--csv", action="store_true", help="print the leaderboard as CSV in base units")
    parser.add_argument("--dataset", metavar="NAME", help="only this dataset")
    add_options(parser, "--weights", "--composite")
    parser.add_argument(
        "--columns",
        nargs="+",
        default=(),
        choices=[c.key for c in MORE_COLUMNS],
        metavar="NAME",
        help=f"show these columns too: {', '.join(c.key for c in MORE_COLUMNS)} (--json and --csv have them always)",
    )
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Print the leaderboard and return 0."""
    weights = weights_of(arguments)
    view = view_leaderboard(
        Store.open(arguments.store),
        hardware(),
        weights=weights,
        composite=arguments.composite,
        dataset=arguments.dataset,
    )
    output(view, arguments, make_console())
    return 0


def output(view: LeaderboardView, arguments: argparse.Namespace, console: Any) -> None:
    """Print `view` in the form that `arguments` ask for."""
    if arguments.json:
        failures = view.failures[["model", "dataset", "seed", "phase", "error_class", "message"]]
        print_json(
            {
                "board": view.to_records(),
                "references": view.reference_records(),
                "failures": failures.to_dict("records"),
                "notes": list(view.notes),
                "stability": [each.to_record() for each in view.robustness],
            }
        )
    elif getattr(arguments, "csv", False):
        sys.stdout.write(csv_of(pd.DataFrame(view.to_records(), columns=EXPORTED)))
    elif view.rows.empty:
        console.print(f"No results in {arguments.store} yet. Start with: moodbench run quickstart")
        print_failures(view, console)
    else:
        print_leaderboard(view, console, columns_with(getattr(arguments, "columns", ())))


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench report`."""
    parser.description = (
        "Without --format, write report.md with its figures as .svg and .png, report.html (figures inside, needs no "
        "network), and leaderboard and calibration as .csv and .json. No file contains a text of a dataset."
    )
    _add_options(parser, REPORT, "exports/report")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench export`."""
    parser.description = "Short for `moodbench report --format csv`. No file contains a text of a dataset."
    _add_options(parser, ["csv"], "exports")


def _add_options(parser: argparse.ArgumentParser, formats: Sequence[str], folder: str) -> None:
    add_options(parser, "--store")
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in FORMATS.items())
    parser.add_argument(
        "--format", nargs="+", type=_format, choices=tuple(FORMATS), default=formats, metavar="FORMAT", help=meanings
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help=f"folder; default: {folder}/ in the store")
    add_options(parser, "--weights", "--composite")
    parser.set_defaults(command=report, folder=folder)


def _format(name: str) -> str:
    return "hf-card" if name == "huggingface" else name  # the former name


def report(arguments: argparse.Namespace) -> int:
    """Write the files, print their paths, and return 0."""
    weights = weights_of(arguments)
    store = existing_store(arguments.store)
    folder = arguments.output
    if folder is None:
        if not isinstance(store.location, LocalLocation):
            raise UsageError(f"report: {store.uri} is not a local folder; choose a folder with --output DIR")
        folder = store.location.root / arguments.folder
    view = view_leaderboard(store, hardware(), weights=weights, composite=arguments.composite)
    for path in write(view, store, arguments.format, folder):
        print(path)
    return 0
