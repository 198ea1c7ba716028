"""`moodbench evaluate`: predict and score the test split with the fits in a store, and print the leaderboard."""

from __future__ import annotations

import argparse

from moodbench.benchmark.from_store import trials_from_store
from moodbench.cli.leaderboard import output
from moodbench.cli.options import add_config, add_json, add_store
from moodbench.cli.request import add_datasets, add_device
from moodbench.cli.running import carry_out, exit_code
from moodbench.cli.target import add_target, open_context
from moodbench.config import load_catalogue
from moodbench.errors import INTERRUPTED
from moodbench.plan import PhaseName
from moodbench.report.leaderboard_view import view_leaderboard
from moodbench.report.terminal import make_console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = "Evaluate the fits of a store that have no predictions yet: those named, or all."
    add_existing(parser, "predict")
    parser.set_defaults(command=execute)


def add_existing(parser: argparse.ArgumentParser, doing: str) -> None:
    """Add the options that select fits of a store."""
    parser.add_argument("fits", nargs="*", metavar="FIT_ID|MODEL", help="fits by id or by model; default: all")
    parser.add_argument("--models", nargs="+", default=[], metavar="MODEL", help="fits of these models")
    add_datasets(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[], metavar="S", help="fits with these seeds")
    add_device(parser, doing)
    add_target(parser)
    add_config(parser)
    add_store(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Evaluate the chosen fits; return 0 if all are evaluated, 1 if one failed, 130 if interrupted."""
    return go_on(arguments, until="evaluate", protocol=None)


def go_on(arguments: argparse.Namespace, until: PhaseName, protocol: str | None) -> int:
    """Run what the chosen fits lack up to the phase `until`, and return the exit code."""
    console = make_console(stderr=arguments.json)
    with open_context(arguments, load_catalogue(arguments.config), console) as context:
        trials = trials_from_store(
            context.store,
            context.catalogue,
            context.machine,
            fits=[*arguments.fits, *arguments.models],
            datasets=arguments.datasets or (),
            seeds=arguments.seeds,
            protocol=protocol,
            device=arguments.device or "auto",
        )
        summary = carry_out(context, context.plan(trials, until), console)
    if summary is None:
        return INTERRUPTED
    output(view_leaderboard(context.store, context.machine), arguments, console)
    return exit_code(summary, console)
