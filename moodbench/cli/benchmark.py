"""`moodbench benchmark`: measure speed and memory of the fits in a store, and print the leaderboard."""

from __future__ import annotations

import argparse
from typing import Any

from moodbench.cli.evaluate import add_existing, go_on
from moodbench.cli.request import add_protocol


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "benchmark",
        help="measure speed and memory of existing fits on this machine",
        description="Measure the fits of a store that have no measurement on this kind of machine with this protocol "
        "yet: those named, or all. A fit without predictions is evaluated first, as timed labels are compared with "
        "them.",
    )
    add_existing(parser, "measure")
    add_protocol(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Measure the chosen fits; return 0 if all are measured, 1 if one failed, 130 if interrupted."""
    return go_on(arguments, until="measure", protocol=arguments.protocol)
