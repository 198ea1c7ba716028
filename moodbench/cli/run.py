"""`moodbench run`: run what is missing of a preset, a spec file or models and datasets, and print the leaderboard."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console

from moodbench.benchmark.driver import RunSummary
from moodbench.benchmark.repeat import compare_repeats, open_rerun
from moodbench.benchmark.resolve import resolve
from moodbench.benchmark.retrain import undertrained
from moodbench.benchmark.run import plan_of, prepare
from moodbench.cli.carrying_out import carry_out, exit_code
from moodbench.cli.leaderboard import output
from moodbench.cli.options import add_config, add_json, add_store, catalogue_of
from moodbench.cli.place import add_place, place_of
from moodbench.cli.request import add_device, add_protocol, add_training, add_what, spec_of
from moodbench.cli.retrain import add_retrain, proposals, to_retrain
from moodbench.config import Catalogue
from moodbench.errors import INTERRUPTED, UsageError
from moodbench.spec import BenchmarkSpec
from moodbench.store import Store
from moodbench.visualization.board_view import view_board
from moodbench.visualization.repeat_view import HEADINGS, LEFT, repeat_rows, repeat_sentence
from moodbench.visualization.terminal import console, print_table


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="fine-tune, evaluate and measure models; prints the board",
        description="Run what has no record yet. Give a preset (quickstart, embedded, ultra-fast, production, "
        "research), a YAML spec, or --models and --datasets, or --models and --data for a file of your own or any data "
        "set of the hub. The same command again does only what is missing.",
    )
    add_what(parser)
    add_training(parser)
    add_protocol(parser)
    add_device(parser)
    add_place(parser)
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
    store = Store.open(arguments.store)
    words = console(stderr=arguments.json)
    if arguments.force and arguments.retrain:
        raise UsageError(
            f"run: --force and --retrain {arguments.retrain}: the one repeats fits as they are, the other changes "
            "their epochs; leave one of the two out"
        )
    if arguments.force:
        return _again(arguments, spec, catalogue, store, words)
    with place_of(arguments, store, words) as (machine, site):
        asked, plan = prepare(spec, catalogue, store, machine)
        trials = asked
        if arguments.retrain:
            trials = to_retrain(asked, store.records("fits"), words)
            plan = plan_of(trials, store)
        how = {"catalogue": catalogue, "executor": arguments.executor, "site": site, "words": words, "spec": spec}
        summary = carry_out(trials, plan, store, machine, **how) if trials else RunSummary(run_id="")
    if summary is None:
        return INTERRUPTED
    output(view_board(store, machine), arguments, words)
    for line in proposals(undertrained(asked, store.records("fits")), arguments):
        words.print(line, soft_wrap=True, markup=False)
    return exit_code(summary, words)


def _again(
    arguments: argparse.Namespace, spec: BenchmarkSpec, catalogue: Catalogue, first: Store, words: Console
) -> int:
    """Rerun everything in a store below `first`, and print what differs; resume an interrupted rerun."""
    with place_of(arguments, first, words) as (machine, site):
        trials = resolve(spec, catalogue, machine)
        again, plan = open_rerun(first, trials)
        if plan.num_phases_done:
            words.print(f"Goes on in {again.uri}, which an earlier --force has begun.", soft_wrap=True, markup=False)
        how = {"catalogue": catalogue, "executor": arguments.executor, "site": site, "words": words, "spec": spec}
        summary = carry_out(trials, plan, again, machine, **how)
    if summary is None:
        return INTERRUPTED
    repeats = compare_repeats(first, again)
    if arguments.json:
        print(json.dumps({"store": again.uri, "repeats": [repeat.as_json() for repeat in repeats]}, indent=1))
    elif repeats:
        print_table(HEADINGS, repeat_rows(repeats), words, left=LEFT)
    words.print(f"{repeat_sentence(repeats)} These are in {again.uri}.", soft_wrap=True)
    return exit_code(summary, words)
