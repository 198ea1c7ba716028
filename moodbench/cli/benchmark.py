"""`moodbench benchmark`: measure speed and memory of fits that a store holds; prints the board."""

from __future__ import annotations

import argparse
from typing import Any

from moodbench.cli.evaluate import add_existing, go_on
from moodbench.cli.request import add_protocol


def add_to(commands: Any) -> None:
    """Nothing; adds the command."""
    parser = commands.add_parser(
        "benchmark",
        help="measure speed and memory of existing fits on this machine",
        description="Measure the fits of a store that have no measurement on this kind of machine with this protocol yet: "
        "those named, or all. A fit without predictions is evaluated first, as timed labels are compared with them.",
    )
    add_existing(parser, "measure")
    add_protocol(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """0 when every chosen fit is measured, 1 when one failed, 130 when interrupted."""
    return go_on(arguments, until="measure", protocol=arguments.protocol)
