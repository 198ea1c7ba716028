"""`moodbench export`: export the leaderboard of a store as files for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from moodbench.cli.options import add_store, existing_store
from moodbench.errors import UsageError
from moodbench.hardware import hardware
from moodbench.report.files import write
from moodbench.report.leaderboard_view import view_leaderboard
from moodbench.store.location import LocalLocation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = __doc__
    add_store(parser)
    parser.add_argument(
        "--format",
        choices=["csv", "parquet", "json", "classic", "huggingface", "every-eval-ever", "latex"],
        default="csv",
        help="classic: one flat JSON per model, MODEL_results.json, in ms, MB and hours; huggingface: the metadata of "
        "a model card with its results; every-eval-ever: one record per model and dataset; latex: tables; "
        "default: %(default)s",
    )
    out = ("--out", "--output")
    parser.add_argument(*out, dest="out", type=Path, metavar="DIR", help="folder; default: exports/ in the store")
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Write the files, print their paths, and return 0."""
    store = existing_store(arguments.store)
    folder = arguments.out
    if folder is None:
        if not isinstance(store.location, LocalLocation):
            raise UsageError(f"export: {store.uri} is not a local folder; choose a folder with --out DIR")
        folder = store.location.root / "exports"
    form = {"huggingface": "hf-card"}.get(arguments.format, arguments.format)
    for path in write(view_leaderboard(store, hardware()), store, [form], folder):
        print(path)
    return 0
