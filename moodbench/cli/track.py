"""`moodbench track sync`: log the trials of a store to MLflow and TensorBoard."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from moodbench.cli.options import add_json, add_store, existing_store, print_json
from moodbench.report.terminal import make_console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "A run does this at its end; MOODBENCH_TRACKING=off leaves it out. MLflow is the one that "
        "MLFLOW_TRACKING_URI names, else a SQLite file in the store."
    )
    parser.add_argument("what", choices=("sync",), help="sync: log what is not there yet; again and again is fine")
    add_store(parser)
    add_json(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Log the trials, print what was new and where it is, and return 0."""
    from moodbench.tracking.sync import sync

    synced = sync(existing_store(arguments.store))
    if arguments.json:
        print_json(asdict(synced))
        return 0
    console = make_console()
    lines = [f"{synced.num_trials} trials; new in MLflow: {synced.num_new_in_mlflow}"]
    if synced.tensorboard_folder:
        lines[0] += f", in TensorBoard: {synced.num_new_in_tensorboard}"
    lines.append(f"MLflow:      uvx mlflow ui --backend-store-uri {synced.mlflow_uri}")
    if synced.tensorboard_folder:
        lines.append(f"TensorBoard: uvx tensorboard --logdir {synced.tensorboard_folder}")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    return 0
