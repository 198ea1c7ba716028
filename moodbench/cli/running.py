"""Parts shared by commands that run phases: targets, the announced plan, its outcome, and retraining."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.console import Console

from moodbench.benchmark.context import RunContext, cluster_target
from moodbench.benchmark.data_report import data_reports
from moodbench.benchmark.driver import RunSummary
from moodbench.benchmark.from_store import Undertrained, retrained, undertrained
from moodbench.benchmark.plan import Plan
from moodbench.benchmark.target import ClusterTarget
from moodbench.cli.options import address_of, print_lines
from moodbench.config import Catalogue
from moodbench.config.cluster import read_cluster_file
from moodbench.errors import UsageError
from moodbench.hardware import hardware
from moodbench.report.notes import undertrained_text, verdict_text
from moodbench.report.terminal import RunDisplay
from moodbench.spec import BASELINE_OF_SCORE, BenchmarkSpec, FitSpec, TrialSpec
from moodbench.store import Store

WITH_VALUES, FLAGS = ("--models", "--retrain"), ("--json", "--force")
"""Options that a suggested command sets itself, and options that it omits."""


@contextmanager
def open_context(arguments: argparse.Namespace, catalogue: Catalogue, console: Console) -> Iterator[RunContext]:
    """Yield the context of a command: its store, and this machine or the cluster to run on.

    Prints the nodes of the cluster.
    """
    store = Store.open(arguments.store)
    target = _cluster(arguments, catalogue, store, console)
    if target is None:
        yield RunContext(store, catalogue, hardware(), executor=getattr(arguments, "executor", "ray"))
    else:
        with closing(target):
            yield RunContext(store, catalogue, target.machine, target)


def _cluster(
    arguments: argparse.Namespace, catalogue: Catalogue, store: Store, console: Console
) -> ClusterTarget | None:
    """Return the cluster that the command line or RAY_ADDRESS names, and print its nodes; None for this machine."""
    address, source = address_of(arguments)
    if address is None:
        if arguments.cluster is not None:
            raise UsageError(f"--cluster {arguments.cluster}: has no use on this machine alone; give --address too")
        return None
    if arguments.executor == "inline":
        raise UsageError(f"--executor inline runs on this machine, {source} {address} names a cluster; give one")
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if submitted and "://" not in arguments.store and not Path(arguments.store).is_absolute():
        raise UsageError(
            f"--store {arguments.store}: a submitted job runs in a temporary folder that is deleted with it; "
            "give --store as an absolute path that all nodes share, or as a URI"
        )
    rules = read_cluster_file(arguments.cluster, catalogue.devices)
    target = cluster_target(address, store, rules, source=source)
    nodes = ", ".join(f"{node.name} ({node.kind}, {node.num_cpus:g} CPUs)" for node in target.nodes())
    lines = [f"Cluster at {address}: {nodes}"]
    if without := target.without_lease():
        lines.append(
            f"{', '.join(without)}: no resource `exclusive`, so a measurement there holds a placement group over the "
            "whole node instead; this does not keep away other people's tasks that ask for no CPUs. "
            "Start nodes with --resources='{\"exclusive\": 1}'"
        )
    print_lines(console, lines)
    return target


def carry_out(
    context: RunContext, plan: Plan, console: Console, spec: BenchmarkSpec | None = None
) -> RunSummary | None:
    """Run what `plan` lacks and return the outcome; if interrupted, print that and return None.

    With the `spec` of new fits, print what it adds and limits, and begin with a report on the user's own data.
    """
    if not plan.requested:
        return RunSummary(run_id="")
    reports = data_reports(plan.requested, context.catalogue, context.sources) if spec else []
    print_lines(console, [line for report in reports for line in report.lines()])
    print_lines(console, _announcement(plan, spec))
    try:
        with RunDisplay(console) as view:
            return replace(context, listen=view).run(plan, reports)
    except KeyboardInterrupt:
        resume = "rerun the command to resume."
        print_lines(console, [f"Interrupted. Committed results are safe in {context.store.uri}; {resume}"])
        return None


def exit_code_of_run(summary: RunSummary, console: Console) -> int:
    """Print the failures; return 0 if every phase has its record, 1 if a trial failed."""
    print_lines(console, [f"failed: {failure}" for failure in summary.failures], style="red")
    return 1 if summary.failures else 0


def _announcement(plan: Plan, spec: BenchmarkSpec | None) -> Iterator[str]:
    """Yield what is about to run, and what differs from the request or from the published weights."""
    fits = [trial.fit for trial in plan.requested]
    models, datasets, seeds = {f.model.name for f in fits}, {f.dataset.name for f in fits}, {f.seeds.init for f in fits}
    yield (
        f"{len(fits)} trials ({len(models)} models, {len(datasets)} datasets, {len(seeds)} seeds): "
        f"{plan.num_phases_missing} phases to run, {plan.num_phases_done} done already and skipped"
    )
    yield from _conversions(fits)
    if not plan.trials:
        yield "Nothing left to do."
    elif spec:
        if spec.max_train_examples:
            yield f"Training on a stratified sub-sample of at most {spec.max_train_examples:,} texts per dataset."
        if BASELINE_OF_SCORE in models - set(spec.models):
            yield f"{BASELINE_OF_SCORE} is added: it defines the zero of the score."


def _conversions(fits: Sequence[FitSpec]) -> Iterator[str]:
    """Yield which weights are not as their owners published them."""
    from moodbench.models.hub import BOT, pull_request_at

    found = {f.model.name: (str(s.hub), str(s.revision)) for f in fits if (s := f.model.source) and s.hub}
    for name, (repository, commit) in found.items():
        if ref := pull_request_at(repository, commit):
            yield (
                f"{name}: weights are {ref} of {repository}, safetensors that the hub's {BOT} made of the owner's "
                "pickles."
            )


def to_retrain(trials: Sequence[TrialSpec], fits: pd.DataFrame, console: Console) -> list[TrialSpec]:
    """Return longer trials for the models that were not trained enough in `fits`, and print which they are."""
    found = undertrained(trials, fits)
    for each in found:
        action = (
            "cannot have more epochs, and is left as it is"
            if each.suggested is None
            else f"is trained again with epochs={each.suggested.epochs:g} instead of {each.epochs:g}"
        )
        verdict = verdict_text(each.verdict, each.num_steps)
        print_lines(console, [f"{each.model} on {each.dataset}: {verdict}; {action}"])
    chosen = retrained(trials, found)
    if not chosen:
        nothing = (
            "--retrain undertrained: nothing to train longer; the store has no fit of the requested models, with this "
            "data and recipe (epochs aside), that needs more epochs and can have them. Without --retrain the command "
            "makes the missing fits."
        )
        print_lines(console, [nothing])
    return chosen


def print_undertrained(
    trials: Sequence[TrialSpec], store: Store, arguments: argparse.Namespace, console: Console
) -> None:
    """Print a line for each model that was not trained enough, with the command that trains it longer."""
    found = undertrained(trials, store.records("fits"))
    print_lines(console, [undertrained_text(each, longer_command(arguments, each)) for each in found])


def longer_command(arguments: argparse.Namespace, found: Undertrained) -> str | None:
    """Return the given command, changed to train the model longer; None if it cannot have more epochs."""
    longer = found.suggested
    if longer is None:
        return None
    if hasattr(arguments, "retrain"):
        changes = ["--models", found.model, "--retrain", "undertrained"]
        return shlex.join(["moodbench", *_without(arguments.argv, WITH_VALUES), *changes])
    limits = {"epochs": longer.epochs, "min_steps": longer.min_steps or None, "max_steps": longer.max_steps}
    kept = [pair for pair in arguments.train or () if pair.partition("=")[0] not in limits]
    kept += [f"{name}={value:.12g}" for name, value in limits.items() if value is not None]
    return shlex.join(["moodbench", *_without(arguments.argv, ("--train",)), "--train", *kept])


def _without(argv: Sequence[str], with_values: Sequence[str]) -> list[str]:
    """Return the arguments of a command line without FLAGS and the options `with_values`.

    Options are recognised in the abbreviated forms that argparse accepts.
    """
    kept, leaving = [], False
    for argument in argv:
        if argument.startswith("--"):
            name = argument.partition("=")[0]
            leaving = len(name) > len("--") and any(option.startswith(name) for option in with_values)
            if not leaving and argument not in FLAGS:
                kept.append(argument)
        elif not leaving:
            kept.append(argument)
    return kept
