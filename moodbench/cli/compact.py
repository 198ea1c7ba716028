"""`moodbench compact`: write the records of each kind into one file, so that a large store opens quickly."""

from __future__ import annotations

import argparse

from moodbench.analysis.cache import cached_results
from moodbench.cli.options import add_store, existing_store
from moodbench.hardware import hardware
from moodbench.report.terminal import make_console
from moodbench.store.reading import compact
from moodbench.store.schema import RECORDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = __doc__
    add_store(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Write the snapshots and, for a large store, the cached results of the page; return 0.

    Both are caches: deleting them loses nothing.
    """
    store = existing_store(arguments.store)
    store.check_writable()
    for kind in RECORDS:
        made = compact(store.location, kind)
        make_console().print(
            f"{made.key}: {made.num_records:,} records, {made.num_read:,} of them newly read", soft_wrap=True
        )
    cached_results(store, hardware(), in_store=True)
    return 0
