"""`moodbench train`: fit one model on one dataset."""

from __future__ import annotations

import argparse

from moodbench.cli.options import catalogue_of
from moodbench.cli.request import add_training, values_of
from moodbench.cli.train_all import add_output, fit_only
from moodbench.errors import UsageError
from moodbench.spec.benchmark_spec import spec_from_values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = "Make one fit, if it is not in the store yet. `moodbench predict --model FIT_ID` uses it."
    parser.add_argument("--model", metavar="MODEL", required=True, help="`moodbench models` lists them")
    parser.add_argument("--dataset", metavar="DATASET", help="`moodbench datasets` lists them; or give --data")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    add_training(parser)
    add_output(parser)
    parser.set_defaults(command=execute, name="train")


def execute(arguments: argparse.Namespace) -> int:
    """Fit the model; return 0 if the fit has its record, 1 if it failed, 130 if interrupted."""
    given = values_of(arguments)
    if (arguments.dataset is None) == ("data" not in given):
        both = f"--dataset {arguments.dataset} and --data {arguments.data}" if arguments.dataset else "neither"
        raise UsageError(f"train: needs exactly one of --dataset and --data; given: {both}")
    chosen = {"datasets": (arguments.dataset,)} if arguments.dataset is not None else {}
    values = {**given, **chosen, "models": (arguments.model,), "seeds": (arguments.seed,)}
    spec = spec_from_values(values, "command line")
    return fit_only(spec, catalogue_of(arguments), arguments, with_baseline=False)
