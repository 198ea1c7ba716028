"""`moodbench benchmark`: measure speed and memory of the fits in a store, and print the leaderboard."""

from __future__ import annotations

import argparse

from moodbench.cli.evaluate import add_existing, go_on
from moodbench.cli.request import add_protocol


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "Measure the fits of a store that have no measurement on this kind of machine with this protocol "
        "yet: those named, or all. A fit without predictions is evaluated first, as timed labels are compared with "
        "them."
    )
    add_existing(parser, "measure")
    add_protocol(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Measure the chosen fits; return 0 if all are measured, 1 if one failed, 130 if interrupted."""
    return go_on(arguments, until="measure", protocol=arguments.protocol)
