"""`moodbench report`: write the leaderboard as Markdown, CSV, JSON, figures, and one HTML page that holds them all."""

from __future__ import annotations

import argparse
from pathlib import Path

from moodbench.cli.options import add_score, add_store, existing_store, weights_of
from moodbench.errors import UsageError
from moodbench.hardware import hardware
from moodbench.report.files import FORMATS, REPORT, write
from moodbench.report.leaderboard_view import view_leaderboard
from moodbench.store.location import LocalLocation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "Without --format, writes report.md with its figures as .svg and .png, report.html (figures inside, needs no "
        "network), and leaderboard and calibration as .csv and .json. No file contains a text of a dataset."
    )
    add_store(parser)
    formats = "; ".join(f"{name}: {meaning}" for name, meaning in FORMATS.items())
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=REPORT, metavar="FORMAT", help=formats)
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder; default: exports/report/ in the store")
    add_score(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Write the report, print the path of each file, and return 0."""
    weights = weights_of(arguments)
    store = existing_store(arguments.store)
    folder = arguments.output
    if folder is None:
        if not isinstance(store.location, LocalLocation):
            raise UsageError(f"report: {store.uri} is not a local folder; choose a folder with --output DIR")
        folder = store.location.root / "exports" / "report"
    view = view_leaderboard(store, hardware(), weights=weights, composite=arguments.composite)
    for path in write(view, store, arguments.format, folder):
        print(path)
    return 0
