"""`moodbench export-model`: export a fit as a folder that transformers loads alone, with a card of measured figures."""

from __future__ import annotations

import argparse
from pathlib import Path

from moodbench.cli.options import add_config, add_store
from moodbench.config import load_catalogue
from moodbench.report.terminal import make_console
from moodbench.serving.export import export_model
from moodbench.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "Write merged weights, tokenizer and a model card to a new folder, which "
        'transformers.pipeline("text-classification", DIR) loads without MoodBench; of a language model that answers '
        "with label words, the card has the lines that read its answer."
    )
    parser.add_argument(
        "model",
        metavar="FIT_ID|NAME",
        help="a fit's id, or a model's name: its fit with the most training texts, then the lowest seed",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that is absent or empty")
    add_config(parser)
    add_store(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Export the model, print where it is, and return 0."""
    catalogue = load_catalogue(arguments.config)
    fit = export_model(Store.open(arguments.store), arguments.model, arguments.folder, catalogue)
    make_console().print(
        f"{fit} is in {arguments.folder}; its figures are in README.md there.", markup=False, soft_wrap=True
    )
    return 0
