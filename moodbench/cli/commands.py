"""Table of commands, and the parser of the command line, which imports only the requested command."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any, NamedTuple

from moodbench import __version__


class Command(NamedTuple):
    """One command of the command line."""

    module: str
    """Module of this package with the command's `add_arguments`, or MODULE:OBJECT for an object that has it."""
    help: str

    def load(self) -> Any:
        """Import the module, and return what has the command's `add_arguments`."""
        name, _, attribute = self.module.partition(":")
        module = import_module(f"moodbench.cli.{name}")
        return getattr(module, attribute) if attribute else module


COMMANDS = {
    "run": Command("run", "fine-tune, evaluate and measure models; prints the board"),
    "train": Command("train", "only fit one model"),
    "train-all": Command("train_all", "only fit models: several models, datasets and seeds"),
    "evaluate": Command("evaluate", "predict and score the test split with existing fits"),
    "benchmark": Command("benchmark", "measure speed and memory of existing fits on this machine"),
    "plan": Command("plan", "say what a run would do, how long and with how much memory, and what will not fit"),
    "tune": Command("tune", "search LoRA's rank, alpha and learning rate for one model and dataset"),
    "leaderboard": Command("leaderboard", "rank what a store holds"),
    "compare": Command("compare", "say whether two models differ"),
    "mislabelled": Command("mislabelled", "list test texts whose label is doubtful"),
    "predict": Command("predict", "label new texts with a model of the store"),
    "export-model": Command("export_model", "write a fine-tuned model as a folder for transformers"),
    "report": Command("report", "write a report: Markdown, CSV, JSON, figures as SVG and PNG, and one HTML page"),
    "export": Command("export", "write the board to files"),
    "verify": Command("verify", "check every file and figure of a store"),
    "recompute": Command("recompute", "work scores and percentiles out again"),
    "compact": Command("compact", "make a large store open quickly"),
    "track": Command("track", "show trials in MLflow and TensorBoard"),
    "models": Command("catalogue:MODELS", "list the models"),
    "datasets": Command("catalogue:DATASETS", "list the datasets"),
    "recipes": Command("recipes", "list the recipes, or compare one with published results"),
    "catalogue": Command("catalogue_pin", "pin hub models to their revisions"),
    "fetch": Command("fetch", "fetch models and datasets beforehand"),
    "guide": Command("guide", "write the model guide and the quick reference from the catalogue"),
    "doctor": Command("doctor", "show the machine and what works on it"),
    "app": Command("app", "show the results as a page"),
    "cluster": Command("cluster", "show the nodes of a Ray cluster and what fits where"),
    "submit": Command("submit", "run a moodbench command as a job of a Ray cluster"),
}
"""Name -> command, in the order of the help."""


def parser(*names: str) -> argparse.ArgumentParser:
    """Return the parser of the command line with the options of the commands `names`; of all, if none is named."""
    made = argparse.ArgumentParser(
        prog="moodbench",
        description="Fine-tune, measure and rank small language models for sentiment analysis on your own hardware.",
        epilog="Start with: moodbench run quickstart",
    )
    made.add_argument("--version", action="version", version=f"moodbench {__version__}")
    commands = made.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=command.help)
        if not names or name in names:
            command.load().add_arguments(added)
    return made
