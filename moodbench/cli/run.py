"""`moodbench run`: run what is missing of a preset, a spec file or models and datasets, and print the leaderboard."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from rich.console import Console

from moodbench.benchmark.context import RunContext
from moodbench.benchmark.repeat import compare_repeats, open_rerun
from moodbench.benchmark.retrain import undertrained
from moodbench.cli.leaderboard import output
from moodbench.cli.options import add_config, add_json, add_store, catalogue_of
from moodbench.cli.request import add_device, add_protocol, add_training, add_what, spec_of
from moodbench.cli.retrain import add_retrain, proposals, to_retrain
from moodbench.cli.running import carry_out, exit_code
from moodbench.cli.target import add_target, open_context
from moodbench.errors import INTERRUPTED, UsageError
from moodbench.report.leaderboard_view import view_leaderboard
from moodbench.report.terminal import REPEAT_HEADINGS, make_console, print_table, repeat_rows, repeat_sentence
from moodbench.spec import BenchmarkSpec, TrialSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "Run what has no record yet. Give a preset (quickstart, embedded, ultra-fast, production, "
        "research), a YAML spec, or --models and --datasets, or --models and --data for a file of your own or any "
        "dataset of the hub. The same command again does only what is missing."
    )
    add_what(parser)
    add_training(parser)
    add_protocol(parser)
    add_device(parser)
    add_target(parser)
    add_config(parser)
    add_store(parser)
    add_json(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="do every phase again under reruns/ of the store, and compare; the first results stand",
    )
    add_retrain(parser)
    parser.set_defaults(command=execute, name="run")


def execute(arguments: argparse.Namespace) -> int:
    """Run the request; return 0 if every phase has its record, 1 if a trial failed, 130 if interrupted."""
    catalogue = catalogue_of(arguments)
    spec = spec_of(arguments, catalogue)
    console = make_console(stderr=arguments.json)
    if arguments.force and arguments.retrain:
        raise UsageError(
            f"run: --force and --retrain {arguments.retrain}: the one repeats fits as they are, the other changes "
            "their epochs; leave one of the two out"
        )
    with open_context(arguments, catalogue, console) as context:
        requested = context.resolve(spec)
        if arguments.force:
            return _rerun(context, requested, spec, arguments, console)
        fits = context.store.records("fits")
        trials = to_retrain(requested, fits, console) if arguments.retrain else requested
        summary = carry_out(context, context.plan(trials), console, spec)
    if summary is None:
        return INTERRUPTED
    output(view_leaderboard(context.store, context.machine), arguments, console)
    for line in proposals(undertrained(requested, context.store.records("fits")), arguments):
        console.print(line, soft_wrap=True, markup=False)
    return exit_code(summary, console)


def _rerun(
    context: RunContext,
    trials: Sequence[TrialSpec],
    spec: BenchmarkSpec,
    arguments: argparse.Namespace,
    console: Console,
) -> int:
    """Rerun everything in a store below the first, and print what differs; resume an interrupted rerun."""
    again, plan = open_rerun(context, trials)
    uri = again.store.uri
    if plan.num_phases_done:
        console.print(f"Goes on in {uri}, which an earlier --force has begun.", soft_wrap=True, markup=False)
    summary = carry_out(again, plan, console, spec)
    if summary is None:
        return INTERRUPTED
    repeats = compare_repeats(context.store, again.store)
    if arguments.json:
        print(json.dumps({"store": uri, "repeats": [repeat.as_json() for repeat in repeats]}, indent=1))
    elif repeats:
        print_table(REPEAT_HEADINGS, repeat_rows(repeats), console, left={"Model", "Dataset"})
    console.print(f"{repeat_sentence(repeats)} These are in {uri}.", soft_wrap=True)
    return exit_code(summary, console)
