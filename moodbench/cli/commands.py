"""Table of commands, and the parser of the command line, which imports only the requested command."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import NamedTuple

from moodbench import __version__


class Command(NamedTuple):
    """One command of the command line."""

    source: str
    """MODULE of this package whose `add_arguments` adds the options, or MODULE:FUNCTION."""
    help: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Import the module, and add the description and options of the command."""
        module, _, function = self.source.partition(":")
        getattr(import_module(f"moodbench.cli.{module}"), function or "add_arguments")(parser)


GROUPS = {
    "run": {
        "run": Command("run", "fine-tune, evaluate and measure models; prints the leaderboard"),
        "plan": Command("plan", "show what a run would do, its time and memory, and what does not fit"),
        "tune": Command("tune", "search LoRA's rank, alpha and learning rate for one model and dataset"),
    },
    "look": {
        "leaderboard": Command("leaderboard", "print the leaderboard of a store"),
        "compare": Command("compare", "compare two models on the same test examples"),
        "mislabelled": Command("compare:add_mislabelled", "list test examples with a doubtful label"),
        "report": Command(
            "leaderboard:add_report",
            "write the leaderboard to files: report, figures and HTML page, or CSV, LaTeX and others",
        ),
        "app": Command("app", "serve the results as a page"),
    },
    "use": {
        "predict": Command("predict", "label new texts with a model of the store"),
        "export-model": Command("predict:add_export_model", "export a fine-tuned model as a folder for transformers"),
    },
    "store": {
        "store": Command("store", "verify, recompute or compact a store"),
        "track": Command("store:add_track", "log the trials of a store to MLflow and TensorBoard"),
    },
    "catalogue": {
        "catalogue": Command("catalogue", "list, download or pin models and datasets; write their guide"),
        "recipes": Command("recipes", "list the recipes, or compare one with published results"),
        "doctor": Command("doctor", "show this machine and what works on it"),
    },
    "cluster": {
        "cluster": Command("cluster", "show the nodes of a Ray cluster and what fits where"),
        "submit": Command("cluster:add_submit", "run a moodbench command as a job of a Ray cluster"),
    },
    "short forms": {
        "train": Command("run:add_train", "fit one model"),
        "train-all": Command("run:add_train_all", "same as run --until fit"),
        "evaluate": Command("run:add_evaluate", "evaluate the fits of a store"),
        "benchmark": Command("run:add_benchmark", "measure the fits of a store on this machine"),
        "export": Command("leaderboard:add_export", "same as report --format csv"),
        "models": Command("catalogue:add_models", "same as catalogue models"),
        "datasets": Command("catalogue:add_datasets", "same as catalogue datasets"),
    },
}
"""Commands by name in groups, in the order of the help."""
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
MOVED = {
    "verify": "store verify",
    "recompute": "store recompute",
    "compact": "store compact",
    "fetch": "catalogue fetch",
    "guide": "catalogue guide",
}
"""Former name of a command -> its name now."""


def parser(*names: str) -> argparse.ArgumentParser:
    """Return the parser of the command line with the options of the commands `names`; of all, if none is named."""
    made = argparse.ArgumentParser(
        prog="moodbench",
        usage="moodbench [-h] [--version] COMMAND ...",
        description="Fine-tune, measure and rank small language models for sentiment analysis on your own hardware.",
        epilog=f"{_overview()}\n\nStart with: moodbench run quickstart",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"moodbench {__version__}")
    commands = made.add_subparsers(prog="moodbench", required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    for name, command in COMMANDS.items():
        added = commands.add_parser(name)
        if not names or name in names:
            command.add_arguments(added)
    return made


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    return "\n\n".join(
        "\n".join([f"{title}:", *(f"  {name:{width}}{command.help}" for name, command in group.items())])
        for title, group in GROUPS.items()
    )
