"""`moodbench evaluate`: predict and score the test split with the fits in a store, and print the leaderboard."""

from __future__ import annotations

import argparse
from typing import Any

from moodbench.benchmark.existing import existing_trials
from moodbench.benchmark.run import plan_of
from moodbench.cli.carrying_out import carry_out, exit_code
from moodbench.cli.leaderboard import output
from moodbench.cli.options import add_config, add_json, add_store
from moodbench.cli.place import add_place, place_of
from moodbench.cli.request import add_datasets, add_device
from moodbench.config import load_catalogue
from moodbench.errors import INTERRUPTED
from moodbench.plan import PhaseName
from moodbench.store import Store
from moodbench.visualization.board_view import view_board
from moodbench.visualization.terminal import console


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "evaluate",
        help="predict and score the test split with existing fits",
        description="Evaluate the fits of a store that have no predictions yet: those named, or all.",
    )
    add_existing(parser, "predict")
    parser.set_defaults(command=execute)


def add_existing(parser: argparse.ArgumentParser, doing: str) -> None:
    """Add the options that select fits of a store."""
    parser.add_argument("fits", nargs="*", metavar="FIT_ID|MODEL", help="fits by id or by model; default: all")
    parser.add_argument("--models", nargs="+", default=[], metavar="MODEL", help="fits of these models")
    add_datasets(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[], metavar="S", help="fits with these seeds")
    add_device(parser, doing)
    add_place(parser)
    add_config(parser)
    add_store(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Evaluate the chosen fits; return 0 if all are evaluated, 1 if one failed, 130 if interrupted."""
    return go_on(arguments, until="evaluate", protocol=None)


def go_on(arguments: argparse.Namespace, until: PhaseName, protocol: str | None) -> int:
    """Run what the chosen fits lack up to the phase `until`, and return the exit code."""
    catalogue = load_catalogue(arguments.config)
    store = Store.open(arguments.store)
    words = console(stderr=arguments.json)
    with place_of(arguments, store, words) as (machine, site):
        trials = existing_trials(
            store,
            catalogue,
            machine,
            fits=[*arguments.fits, *arguments.models],
            datasets=arguments.datasets or (),
            seeds=arguments.seeds,
            protocol=protocol,
            device=arguments.device or "auto",
        )
        plan = plan_of(trials, store, until)
        how = {"catalogue": catalogue, "executor": arguments.executor, "site": site, "words": words}
        summary = carry_out(trials, plan, store, machine, **how)
    if summary is None:
        return INTERRUPTED
    output(view_board(store, machine), arguments, words)
    return exit_code(summary, words)
