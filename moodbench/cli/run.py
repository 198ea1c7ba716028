"""`moodbench run` and its short forms `train`, `train-all`, `evaluate`, `benchmark`: run the missing phases."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from moodbench.benchmark.context import RunContext
from moodbench.benchmark.from_store import compare_repeats, open_rerun, stored_fits, trials_from_store
from moodbench.benchmark.plan import PHASES
from moodbench.cli.leaderboard import output
from moodbench.cli.options import (
    DATA,
    TARGET,
    TRAINING,
    WHAT,
    add_options,
    catalogue_of,
    print_json,
    print_lines,
    spec_of,
    spec_of_one,
)
from moodbench.cli.running import carry_out, exit_code_of_run, open_context, print_undertrained, to_retrain
from moodbench.config import Catalogue, load_catalogue
from moodbench.errors import INTERRUPTED, UsageError
from moodbench.report.formatting import duration, percent
from moodbench.report.leaderboard_view import view_leaderboard
from moodbench.report.terminal import REPEAT_HEADINGS, make_console, print_table, repeat_rows, repeat_sentence
from moodbench.spec import BenchmarkSpec, TrialSpec
from moodbench.store import Store

FIT_COLUMNS = ["fit_id", "model", "dataset", "seed", "num_train", "validation_accuracy", "validation_f1_macro",
               "train_time_s", "num_steps", "training_verdict"]  # fmt: skip
FIT_HEADINGS = ["Fit", "Model", "Dataset", "Seed", "Texts", "Valid. acc. %", "Valid. F1 %", "Training"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench run`."""
    parser.description = (
        "Run what has no record yet. Give a preset (quickstart, embedded, ultra-fast, production, "
        "research), a YAML spec, or --models and --datasets, or --models and --data for a file of your own or any "
        "dataset of the hub. Rerun the command to resume."
    )
    add_options(parser, *WHAT, *DATA, *TRAINING, "--inference-dtype", "--protocol")
    parser.add_argument(
        "--until",
        choices=PHASES,
        default="measure",
        help="last phase to run: fit trains, evaluate also scores the test split, measure also measures speed and "
        "memory; default: %(default)s",
    )
    _add_target(parser, "train and measure")
    parser.add_argument(
        "--force",
        action="store_true",
        help="repeat every phase under reruns/ of the store, and compare; the first results stay as they are",
    )
    add_options(parser, "--retrain")
    parser.set_defaults(command=execute, name="run")


def add_train_all(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench train-all`."""
    parser.description = (
        "Short for `moodbench run --until fit`: make the fits that are missing. `moodbench run` with the same options, "
        "or `moodbench evaluate` and `moodbench benchmark`, continue from there."
    )
    add_options(parser, *WHAT, *DATA, *TRAINING)
    _add_target(parser, "train")
    add_options(parser, "--retrain")
    parser.set_defaults(command=execute, name="train-all", until="fit", force=False)


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench train`."""
    parser.description = "Make one fit, if it is not in the store yet. `moodbench predict --model FIT_ID` uses it."
    parser.add_argument("--model", metavar="MODEL", required=True, help="see `moodbench catalogue models`")
    parser.add_argument("--dataset", metavar="DATASET", help="see `moodbench catalogue datasets`; or give --data")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    add_options(parser, *DATA, *TRAINING)
    _add_target(parser, "train")
    parser.set_defaults(command=train, until="fit", force=False)


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench evaluate`."""
    parser.description = "Evaluate the fits of a store that have no predictions yet: those named, or all."
    _add_stored_fits(parser, "predict")
    parser.set_defaults(command=complete, until="evaluate", protocol=None)


def add_benchmark(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench benchmark`."""
    parser.description = (
        "Measure the fits of a store that have no measurement on this kind of machine with this protocol yet: those "
        "named, or all. A fit without predictions is evaluated first, because timed labels are compared with them."
    )
    _add_stored_fits(parser, "measure")
    add_options(parser, "--protocol")
    parser.set_defaults(command=complete, until="measure")


def _add_stored_fits(parser: argparse.ArgumentParser, doing: str) -> None:
    parser.add_argument("fits", nargs="*", metavar="FIT_ID|MODEL", help="fits by id or by model; default: all")
    parser.add_argument("--models", nargs="+", default=[], metavar="MODEL", help="fits of these models")
    add_options(parser, "--inference-dtype", "--datasets")
    parser.add_argument("--seeds", nargs="+", type=int, default=[], metavar="S", help="fits with these seeds")
    _add_target(parser, doing)


def _add_target(parser: argparse.ArgumentParser, doing: str) -> None:
    add_options(parser, "--device", help=f"where to {doing}")
    add_options(parser, *TARGET, "--config", "--store", "--json")


def execute(arguments: argparse.Namespace) -> int:
    """Run the request; return 0 if every phase has its record, 1 if a trial failed, 130 if interrupted."""
    if arguments.force and (arguments.retrain or arguments.until != "measure"):
        other = f"--retrain {arguments.retrain}" if arguments.retrain else f"--until {arguments.until}"
        raise UsageError(f"run: --force and {other}: --force repeats all phases of the same fits; leave one out")
    catalogue = catalogue_of(arguments)
    return _run(spec_of(arguments, catalogue), catalogue, arguments)


def train(arguments: argparse.Namespace) -> int:
    """Fit the model; return 0 if the fit has its record, 1 if it failed, 130 if interrupted."""
    spec = spec_of_one(arguments, "train", seeds=(arguments.seed,))
    return _run(spec, catalogue_of(arguments), arguments, with_baseline=False)


def complete(arguments: argparse.Namespace) -> int:
    """Run what the chosen fits of the store lack; return the exit code as `execute` does."""
    console = make_console(stderr=arguments.json)
    with open_context(arguments, load_catalogue(arguments.config), console) as context:
        names = [*arguments.fits, *arguments.models]
        trials = trials_from_store(
            context,
            stored_fits(context.store, fits=names, datasets=arguments.datasets or (), seeds=arguments.seeds),
            protocol=arguments.protocol,
            device=arguments.device or "auto",
            inference_dtype=arguments.inference_dtype or "auto",
        )
        summary = carry_out(context, context.plan(trials, arguments.until), console)
    if summary is None:
        return INTERRUPTED
    output(view_leaderboard(context.store, context.machine), arguments, console)
    return exit_code_of_run(summary, console)


def _run(
    spec: BenchmarkSpec, catalogue: Catalogue, arguments: argparse.Namespace, *, with_baseline: bool = True
) -> int:
    """Run what is missing of `spec`, print fits or the leaderboard, and return the exit code."""
    console = make_console(stderr=arguments.json)
    with open_context(arguments, catalogue, console) as context:
        requested = trials = context.resolve(spec, with_baseline=with_baseline)
        if arguments.force:
            return _rerun(context, requested, spec, arguments, console)
        if getattr(arguments, "retrain", None):
            trials = to_retrain(requested, context.store.records("fits"), console)
        summary = carry_out(context, context.plan(trials, arguments.until), console, spec)
    if summary is None:
        return INTERRUPTED
    if arguments.until == "fit":
        _print_fits(trials, context.store, arguments, console)
    else:
        output(view_leaderboard(context.store, context.machine), arguments, console)
    print_undertrained(requested, context.store, arguments, console)
    return exit_code_of_run(summary, console)


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
        print_lines(console, [f"Resumes the rerun in {uri}, which an earlier --force started."])
    summary = carry_out(again, plan, console, spec)
    if summary is None:
        return INTERRUPTED
    repeats = compare_repeats(context.store, again.store)
    if arguments.json:
        print_json({"store": uri, "repeats": [asdict(repeat) for repeat in repeats]})
    elif repeats:
        print_table(REPEAT_HEADINGS, repeat_rows(repeats), console, left={"Model", "Dataset"})
    print_lines(console, [f"{repeat_sentence(repeats)} The rerun is in {uri}."])
    return exit_code_of_run(summary, console)


def _print_fits(trials: Sequence[TrialSpec], store: Store, arguments: argparse.Namespace, console: Console) -> None:
    fits = store.records("fits").set_index("fit_id", drop=False)
    found = fits.loc[[trial.fit.fit_id for trial in trials if trial.fit.fit_id in fits.index], FIT_COLUMNS]
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
    if rows:
        console.print()
        print_table(FIT_HEADINGS, rows, console, left={"Fit", "Model", "Dataset"})
        next_ = "Next: `moodbench evaluate` scores the test split, `moodbench benchmark` measures speed and memory."
        print_lines(console, [next_])
