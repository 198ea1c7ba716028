"""`--retrain undertrained`, and the lines about models that were not trained enough at the end of a command."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

import pandas as pd
from rich.console import Console

from moodbench.benchmark.retrain import Undertrained, retrained, undertrained
from moodbench.report.notes import undertrained_words, verdict_words
from moodbench.spec import TrialSpec

WITH_VALUES, FLAGS = ("--models", "--retrain"), ("--json", "--force")
"""Options that a suggested command sets itself, and options that it omits."""


def add_retrain(parser: argparse.ArgumentParser) -> None:
    """Add `--retrain`."""
    parser.add_argument(
        "--retrain",
        choices=("undertrained",),
        help="train longer: of the models asked for, only those whose latest fit was not trained enough, with more "
        "epochs",
    )


def to_retrain(trials: Sequence[TrialSpec], fits: pd.DataFrame, console: Console) -> list[TrialSpec]:
    """Return longer trials for the models that were not trained enough in `fits`, and print which they are."""
    found = undertrained(trials, fits)
    for each in found:
        what = (
            "cannot have more epochs, and is left as it is"
            if each.suggested is None
            else f"is trained again with epochs={each.suggested.epochs:g} in place of {each.epochs:g}"
        )
        console.print(
            f"{each.model} on {each.dataset}: {verdict_words(each.verdict, each.num_steps)}; {what}",
            soft_wrap=True,
            markup=False,
        )
    chosen = retrained(trials, found)
    if not chosen:
        console.print(
            "--retrain undertrained: nothing to train longer; the store has no fit of what is asked for, with this "
            "data and recipe (epochs aside), that needs more epochs and can have them. Without --retrain the command "
            "makes the fits that are missing.",
            soft_wrap=True,
        )
    return chosen


def proposals(found: Sequence[Undertrained], arguments: argparse.Namespace) -> list[str]:
    """Return a line for each model that was not trained enough, with the command that trains it longer."""
    return [undertrained_words(each, longer_command(arguments, each)) for each in found]


def longer_command(arguments: argparse.Namespace, found: Undertrained) -> str | None:
    """Return the given command, changed to train the model longer; None if it cannot have more epochs."""
    if found.suggested is None:
        return None
    if not hasattr(arguments, "retrain"):  # `moodbench train` has no --retrain, so name the epochs
        longer = found.suggested
        limits = {"epochs": longer.epochs, "min_steps": longer.min_steps or None, "max_steps": longer.max_steps}
        kept = [pair for pair in arguments.train or () if pair.partition("=")[0] not in limits]
        kept += [f"{name}={value:.12g}" for name, value in limits.items() if value is not None]
        return shlex.join(["moodbench", *_without(arguments.argv, ("--train",)), "--train", *kept])
    own = ["--models", found.model, "--retrain", "undertrained"]
    return shlex.join(["moodbench", *_without(arguments.argv, WITH_VALUES), *own])


def _without(argv: Sequence[str], with_values: Sequence[str]) -> list[str]:
    """Return the arguments of a command line without FLAGS and the options `with_values`.

    Options are recognised in the abbreviated forms that argparse accepts.
    """
    kept, leaving = [], False
    for word in argv:
        if word.startswith("--"):
            name = word.partition("=")[0]
            leaving = len(name) > len("--") and any(option.startswith(name) for option in with_values)
            if not leaving and word not in FLAGS:
                kept.append(word)
        elif not leaving:
            kept.append(word)
    return kept
