"""`moodbench leaderboard`: print the leaderboard of a store."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import pandas as pd

from moodbench.cli.options import add_json, add_score, add_store, print_json, weights_of
from moodbench.hardware import hardware
from moodbench.report.formatting import MORE_COLUMNS, columns_with, csv_of
from moodbench.report.leaderboard_view import EXPORTED, LeaderboardView, view_leaderboard
from moodbench.report.terminal import make_console, print_failures, print_leaderboard
from moodbench.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = __doc__
    add_store(parser)
    add_json(parser)
    parser.add_argument("--csv", action="store_true", help="print the leaderboard as CSV in base units")
    parser.add_argument("--dataset", metavar="NAME", help="only this dataset")
    add_score(parser)
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
