"""`moodbench run`: do what is missing of a preset, a spec file or a list of models and data sets; print the board."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from moodbench.benchmark.cluster_site import ClusterSite
from moodbench.benchmark.run import cluster_site, data_reports, prepare, run
from moodbench.cli.leaderboard import output
from moodbench.cli.options import add_cluster, add_config, add_json, add_store, address_of
from moodbench.cli.own_data import add_own_data, own_entry, with_own_data
from moodbench.config import Catalogue, load_catalogue
from moodbench.config.cluster import read_cluster_file
from moodbench.errors import UsageError
from moodbench.hardware import hardware
from moodbench.spec import BASELINE_OF_SCORE, BenchmarkSpec, read_spec, spec_of_preset
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.store import Store
from moodbench.visualization.board_view import view_board
from moodbench.visualization.live import RunView
from moodbench.visualization.terminal import console


def add_to(commands: Any) -> None:
    """Nothing; adds the command."""
    parser = commands.add_parser(
        "run",
        help="fine-tune, evaluate and measure models; prints the board",
        description="Run what has no record yet. Give a preset (quickstart, embedded), a YAML spec, or --models and "
        "--datasets, or --models and --data for a file of your own. The same command again does only what is missing.",
    )
    parser.add_argument("what", nargs="?", metavar="PRESET|SPEC.yaml", help="a preset's name or a spec file")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="models to compare; `moodbench models` lists them")
    parser.add_argument("--datasets", nargs="+", metavar="DATASET", help="data sets; `moodbench datasets` lists them")
    add_own_data(parser)
    parser.add_argument("--seeds", type=int, metavar="N", help="train with seeds 0 to N-1")
    parser.add_argument("--max-train-examples", type=int, metavar="N", help="train on a stratified sub-sample")
    parser.add_argument("--max-validation-examples", type=int, metavar="N", help="validate on a stratified sub-sample")
    parser.add_argument("--neutral-band", type=float, metavar="X", help="mean ratings within +-X are neutral")
    parser.add_argument("--protocol", metavar="NAME", help="measuring protocol: full or quick")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="where to train and measure")
    parser.add_argument(
        "--executor",
        choices=("ray", "inline"),
        default="ray",
        help="ray packs trials on this machine's processors; inline runs them in this process, for debugging",
    )
    add_cluster(parser)
    add_config(parser)
    add_store(parser)
    add_json(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """0 when every phase has its record, 1 when a trial failed, 130 when interrupted."""
    own = own_entry(arguments)
    catalogue = with_own_data(load_catalogue(arguments.config), own)
    spec = spec_of(arguments, catalogue, own and own[0])
    words = console(stderr=arguments.json)
    store = Store.open(arguments.store)
    with ExitStack() as stack:
        site = _site(arguments, store, words)
        if site is not None:
            stack.callback(site.close)
        machine = site.machine if site is not None else hardware()
        trials, plan = prepare(spec, catalogue, store, machine)
        reports = data_reports(trials, catalogue)
        for line in (line for report in reports for line in report.lines()):
            words.print(line, markup=False, emoji=False, soft_wrap=True)
        announce(spec, trials, plan, words)
        try:
            with RunView(words) as view:
                summary = run(
                    trials, plan, store, machine, executor=arguments.executor, site=site, reports=reports, listen=view
                )
        except KeyboardInterrupt:
            words.print(f"Interrupted. What was committed is in {store.uri}; the same command does the rest.")
            return 130
    output(view_board(store, machine), arguments, words)
    for failure in summary.failures:
        words.print(f"failed: {failure}", style="red", markup=False)
    return 1 if summary.failures else 0


def _site(arguments: argparse.Namespace, store: Store, words: Console) -> ClusterSite | None:
    """The cluster that the command line or RAY_ADDRESS names, None for this machine; says what it found there."""
    address, said = address_of(arguments)
    if address is None:
        if arguments.cluster is not None:
            raise UsageError(f"--cluster {arguments.cluster}: has no use on this machine alone; give --address too")
        return None
    if arguments.executor == "inline":
        raise UsageError(f"--executor inline runs on this machine, {said} {address} names a cluster; give one of them")
    if (
        "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
        and "://" not in arguments.store
        and not Path(arguments.store).is_absolute()
    ):
        raise UsageError(
            f"--store {arguments.store}: a submitted job runs in a temporary folder that goes with it; "
            "give --store as an absolute path that all nodes share, or as a URI"
        )
    site = cluster_site(address, store, read_cluster_file(arguments.cluster), said=said)
    nodes = ", ".join(f"{node.name} ({node.kind}, {node.num_cpus:g} CPUs)" for node in site.nodes())
    words.print(f"Cluster at {address}: {nodes}", markup=False, soft_wrap=True)
    without = site.without_lease()
    if without:
        words.print(
            f"{', '.join(without)}: no resource `exclusive`, so a measurement there holds a placement group over the whole "
            "node instead; work of others that asks for no CPUs is not kept away. "
            "Start nodes with --resources='{\"exclusive\": 1}'",
            markup=False,
            soft_wrap=True,
        )
    return site


def spec_of(arguments: argparse.Namespace, catalogue: Catalogue, own: str | None = None) -> BenchmarkSpec:
    """The spec that the command line asks for, on the data set `own` as well; UsageError when it asks for nothing."""
    datasets = (*([own] if own else []), *(arguments.datasets or []))
    flags = {
        "models": arguments.models and tuple(arguments.models),
        "datasets": datasets or None,
        "seeds": None if arguments.seeds is None else tuple(range(arguments.seeds)),
        "max_train_examples": arguments.max_train_examples,
        "max_validation_examples": arguments.max_validation_examples,
        "neutral_band": arguments.neutral_band,
        "protocol": arguments.protocol,
        "device": arguments.device,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    what = arguments.what
    if what is None:
        if not arguments.models or not datasets:
            raise UsageError(
                "run: nothing to run; give a preset "
                f"({', '.join(catalogue.presets)}), a spec file, or both --models and --datasets (or --data)"
            )
        return spec_from_values(given, "command line")
    if what.endswith((".yaml", ".yml")) or Path(what).is_file():
        return spec_from_values(read_spec(Path(what)).model_dump(exclude_unset=True) | given, what)
    return spec_of_preset(what, catalogue, given)


def announce(spec: BenchmarkSpec, trials: Any, plan: Any, words: Any) -> None:
    """Nothing; says what will run, what is there already, and what is cut short."""
    words.print(
        f"{len(trials)} trials ({len({t.fit.model.name for t in trials})} models, {len(spec.datasets)} data sets, "
        f"{len(spec.seeds)} seeds): {plan.num_phases_missing} phases to run, {plan.num_phases_done} done already and skipped"
    )
    if not plan.trials:
        words.print("Nothing left to do.")
        return
    if spec.max_train_examples:
        words.print(f"Training on a stratified sub-sample of at most {spec.max_train_examples:,} texts per data set.")
    if BASELINE_OF_SCORE not in spec.models:
        words.print(f"{BASELINE_OF_SCORE} is added: the zero of the score is defined by it.")
