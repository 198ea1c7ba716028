"""`moodbench report`: write the leaderboard as Markdown, figures, one HTML page, or files for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from moodbench.cli.options import add_score, add_store, existing_store, weights_of
from moodbench.errors import UsageError
from moodbench.hardware import hardware
from moodbench.report.files import FORMATS, REPORT, write
from moodbench.report.leaderboard_view import view_leaderboard
from moodbench.store.location import LocalLocation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench report`."""
    parser.description = (
        "Without --format, write report.md with its figures as .svg and .png, report.html (figures inside, needs no "
        "network), and leaderboard and calibration as .csv and .json. No file contains a text of a dataset."
    )
    _add_options(parser, REPORT, "exports/report")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench export`."""
    parser.description = "Short for `moodbench report --format csv`. No file contains a text of a dataset."
    _add_options(parser, ["csv"], "exports")


def _add_options(parser: argparse.ArgumentParser, formats: Sequence[str], folder: str) -> None:
    add_store(parser)
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in FORMATS.items())
    parser.add_argument(
        "--format", nargs="+", type=_format, choices=tuple(FORMATS), default=formats, metavar="FORMAT", help=meanings
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help=f"folder; default: {folder}/ in the store")
    add_score(parser)
    parser.set_defaults(command=report, folder=folder)


def _format(name: str) -> str:
    return "hf-card" if name == "huggingface" else name  # the former name


def report(arguments: argparse.Namespace) -> int:
    """Write the files, print their paths, and return 0."""
    weights = weights_of(arguments)
    store = existing_store(arguments.store)
    folder = arguments.output
    if folder is None:
        if not isinstance(store.location, LocalLocation):
            raise UsageError(f"report: {store.uri} is not a local folder; choose a folder with --output DIR")
        folder = store.location.root / arguments.folder
    view = view_leaderboard(store, hardware(), weights=weights, composite=arguments.composite)
    for path in write(view, store, arguments.format, folder):
        print(path)
    return 0
