"""Options that several commands share."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

DEFAULT_STORE = "results"


def add_store(parser: argparse.ArgumentParser) -> None:
    """Nothing; adds --store."""
    parser.add_argument(
        "--store",
        default=DEFAULT_STORE,
        metavar="PATH_OR_URI",
        help="folder or URI (s3://bucket/folder) with the results; default: %(default)s/",
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """Nothing; adds --config."""
    parser.add_argument(
        "--config", type=Path, metavar="PATH", help="YAML file or folder that adds to or changes the catalogue"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Nothing; adds --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def print_json(value: Any) -> None:
    """Nothing; writes `value` as the one JSON document of standard output."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False, default=str)
    sys.stdout.write("\n")
