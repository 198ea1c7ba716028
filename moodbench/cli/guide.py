"""`moodbench guide`: write the model guide and the quick reference from the catalogue."""

from __future__ import annotations

import argparse
from pathlib import Path

from moodbench.cli.commands import COMMANDS
from moodbench.cli.options import add_config
from moodbench.config import load_catalogue
from moodbench.errors import PrerequisiteError
from moodbench.report.files import replaced
from moodbench.report.guide import model_configuration, quick_reference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "Writes MODEL_CONFIGURATION.md (every model, what it needs on CUDA, Apple and CPU) and "
        "QUICK_REFERENCE.md. With --config they hold your own models and datasets too."
    )
    parser.add_argument("--output", type=Path, default=Path("docs"), metavar="DIR", help="default: %(default)s/")
    add_config(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Write the files, print their paths, and return 0."""
    catalogue = load_catalogue(arguments.config)
    commands = [(name, command.help) for name, command in COMMANDS.items()]
    contents = {
        "MODEL_CONFIGURATION.md": model_configuration(catalogue),
        "QUICK_REFERENCE.md": quick_reference(catalogue, commands),
    }
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            print(replaced(arguments.output / name, text.encode()))
    except OSError as error:
        raise PrerequisiteError(
            f"{arguments.output}: cannot be written ({error.strerror or error}); give a folder with --output"
        ) from error
    return 0
