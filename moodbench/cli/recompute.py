"""`moodbench recompute`: write tables with scores and percentiles recomputed from stored predictions and timings."""

from __future__ import annotations

import argparse

from moodbench.cli.options import add_store, existing_store
from moodbench.report.terminal import make_console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = __doc__
    add_store(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Write the tables beside the records, print how many records differ from them, and return 0.

    Records are never rewritten.
    """
    from moodbench.store.recompute import KINDS, recompute

    store = existing_store(arguments.store)
    store.check_writable()
    for kind in KINDS:
        made = recompute(store, kind)
        differs = f"{len(made.differing):,} differ from what is stored"
        hint = "; `moodbench verify` says in what" if made.differing else ""
        line = f"{made.key}: {made.num_records:,} records recomputed, {differs}{hint}"
        make_console().print(line, markup=False, soft_wrap=True)
    return 0
