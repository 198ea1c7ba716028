"""Options that several commands share."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from moodbench.config import Catalogue, load_catalogue
from moodbench.errors import StoreError
from moodbench.statistics.composite import COMPOSITES, Weights
from moodbench.store import Store
from moodbench.store.schema import RECORDS

DEFAULT_STORE = "results"


def add_actions(parser: argparse.ArgumentParser, description: str, *, required: bool = True) -> Any:
    """Set the description of a command with several actions, and return what `add_action` takes."""
    parser.description = description
    return parser.add_subparsers(title="actions", required=required, metavar="ACTION")


def add_action(
    actions: Any, name: str, execute: Callable[[argparse.Namespace], int], help: str, description: str = ""
) -> argparse.ArgumentParser:
    """Add an action to a command, and return its parser; the default description is the help text."""
    added: argparse.ArgumentParser = actions.add_parser(
        name, help=help, description=description or f"{help[0].upper()}{help[1:]}."
    )
    added.set_defaults(command=execute)
    return added


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add `--store`."""
    parser.add_argument(
        "--store",
        default=DEFAULT_STORE,
        metavar="PATH_OR_URI",
        help="folder or URI (s3://bucket/folder) with the results; default: %(default)s/",
    )


def existing_store(uri: str) -> Store:
    """Return the store at `uri`.

    Raises: StoreError if it has no record, as a mistyped name would have none.
    """
    store = Store.open(uri)
    if not any(store.ids(kind) for kind in RECORDS):
        raise StoreError(
            f"--store {uri}: holds no records; give the folder of a run, or start one with `moodbench run`"
        )
    return store


def add_config(parser: argparse.ArgumentParser, **default: Any) -> None:
    """Add `--config` with the given `default`; argparse.SUPPRESS keeps the value given before an action."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        help="YAML file or folder that adds to or changes the catalogue",
        **default,
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add `--trust-remote-code`."""
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run, with your rights, the code that models given by hub id or folder bring along; read it first",
    )


def catalogue_of(arguments: argparse.Namespace) -> Catalogue:
    """Return the catalogue that `--config` and `--trust-remote-code` give."""
    return load_catalogue(arguments.config, trust_remote_code=arguments.trust_remote_code)


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add `--address` and `--cluster`."""
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="head of a Ray cluster to run on, from one of its nodes, or auto; default: RAY_ADDRESS, else this machine "
        "alone",
    )
    parser.add_argument(
        "--cluster", type=Path, metavar="FILE", help="YAML with the cluster's classes of nodes; see cluster/README.md"
    )


def address_of(arguments: argparse.Namespace) -> tuple[str | None, str]:
    """Return the address of a cluster, or None, and the option or variable that gives it."""
    if arguments.address:
        return arguments.address, "--address"
    return os.environ.get("RAY_ADDRESS") or None, "RAY_ADDRESS"


def add_score(parser: argparse.ArgumentParser) -> None:
    """Add `--weights` and `--composite`."""
    parser.add_argument(
        "--weights",
        metavar="NAME=SHARE,...",
        help="what counts, adding up to 1; default: accuracy=0.3,f1=0.3,throughput=0.2,latency=0.2",
    )
    parser.add_argument(
        "--composite",
        choices=tuple(COMPOSITES),
        default="pinned",
        help="pinned: fixed anchors, a row's score does not depend on other rows; minmax: relative to the rows shown; "
        "geomean: weighted product of ratios to the baseline; none: no score, in Pareto order of error, latency and "
        "memory",
    )


def weights_of(arguments: argparse.Namespace) -> Weights:
    """Return the weights that `--weights` gives, or the default ones."""
    return Weights.parse(arguments.weights) if arguments.weights else Weights()


def add_json(parser: argparse.ArgumentParser, **default: Any) -> None:
    """Add `--json` with the given `default`; argparse.SUPPRESS keeps the value given before an action."""
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else", **default)


def print_json(value: Any) -> None:
    """Write `value` as the only JSON document on standard output."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False, default=str)
    sys.stdout.write("\n")


def print_lines(console: Console, lines: Iterable[str], style: str | None = None) -> None:
    """Print each line verbatim, without wrapping it."""
    for line in lines:
        console.print(line, markup=False, emoji=False, soft_wrap=True, style=style)
