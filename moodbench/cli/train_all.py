"""`moodbench train-all`: fit many models on one or more datasets, without evaluating or measuring them."""

from __future__ import annotations

import argparse

from rich.console import Console

from moodbench.benchmark.retrain import undertrained
from moodbench.cli.options import add_config, add_json, add_store, catalogue_of, print_json
from moodbench.cli.request import add_device, add_training, add_what, spec_of
from moodbench.cli.retrain import add_retrain, proposals, to_retrain
from moodbench.cli.running import carry_out, exit_code
from moodbench.cli.target import add_target, open_context
from moodbench.config import Catalogue
from moodbench.errors import INTERRUPTED
from moodbench.report.formatting import duration, percent
from moodbench.report.terminal import make_console, print_table
from moodbench.spec import BenchmarkSpec, TrialSpec
from moodbench.store import Store

SHOWN = [
    "fit_id",
    "model",
    "dataset",
    "seed",
    "num_train",
    "validation_accuracy",
    "validation_f1_macro",
    "train_time_s",
    "num_steps",
    "training_verdict",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "Fit what has no fit yet; takes what `moodbench run` takes, so that `run` with the same words does "
        "the rest. `moodbench evaluate` and `moodbench benchmark` go on from here too."
    )
    add_what(parser)
    add_training(parser)
    add_output(parser)
    add_retrain(parser)
    parser.set_defaults(command=execute, name="train-all")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where fits run and where they are stored."""
    add_device(parser, "train")
    add_target(parser)
    add_config(parser)
    add_store(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Fit the models; return 0 if every fit has its record, 1 if one failed, 130 if interrupted."""
    catalogue = catalogue_of(arguments)
    return fit_only(spec_of(arguments, catalogue), catalogue, arguments, with_baseline=True)


def fit_only(spec: BenchmarkSpec, catalogue: Catalogue, arguments: argparse.Namespace, *, with_baseline: bool) -> int:
    """Make the missing fits of `spec`, print all its fits, and return the exit code."""
    console = make_console(stderr=arguments.json)
    with open_context(arguments, catalogue, console) as context:
        requested = trials = context.resolve(spec, with_baseline=with_baseline)
        if getattr(arguments, "retrain", None):
            trials = to_retrain(requested, context.store.records("fits"), console)
        summary = carry_out(context, context.plan(trials, until="fit"), console, spec)
    if summary is None:
        return INTERRUPTED
    _show(trials, context.store, arguments, console)
    for line in proposals(undertrained(requested, context.store.records("fits")), arguments):
        console.print(line, soft_wrap=True, markup=False)
    return exit_code(summary, console)


def _show(trials: list[TrialSpec], store: Store, arguments: argparse.Namespace, console: Console) -> None:
    wanted = [trial.fit.fit_id for trial in trials]
    fits = store.records("fits").set_index("fit_id", drop=False)
    found = fits.loc[[i for i in wanted if i in fits.index], SHOWN]
    made = found.astype({"num_steps": "Int64"}).astype(object).where(found.notna(), None).to_dict("records")
    if arguments.json:
        print_json({"fits": made})
        return
    rows = [
        [
            *(str(fit[name]) for name in ("fit_id", "model", "dataset", "seed")),
            f"{fit['num_train']:,}",
            percent(fit["validation_accuracy"]),
            percent(fit["validation_f1_macro"]),
            duration(fit["train_time_s"]),
        ]
        for fit in made
    ]
    headings = ["Fit", "Model", "Dataset", "Seed", "Texts", "Valid. acc. %", "Valid. F1 %", "Training"]
    if rows:
        console.print()
        print_table(headings, rows, console, left={"Fit", "Model", "Dataset"})
        console.print(
            "Next: `moodbench evaluate` predicts and scores the test split, `moodbench benchmark` measures speed."
        )
