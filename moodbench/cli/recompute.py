"""`moodbench recompute`: scores and percentiles from stored predictions and timings, as tables beside the records."""

from __future__ import annotations

import argparse
from typing import Any

from moodbench.cli.options import add_store, existing_store
from moodbench.visualization.terminal import console


def add_to(commands: Any) -> None:
    """Nothing; adds the command."""
    parser = commands.add_parser("recompute", help="work scores and percentiles out again", description=__doc__)
    add_store(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """0; writes the tables and says how many records differ from them. Records are never rewritten."""
    from moodbench.store.recomputed import KINDS, recompute

    store = existing_store(arguments.store)
    store.check_writable()
    for kind in KINDS:
        made = recompute(store, kind)
        differs = f"{len(made.differing):,} differ from what is stored"
        hint = "; `moodbench verify` says in what" if made.differing else ""
        line = f"{made.key}: {made.num_records:,} records recomputed, {differs}{hint}"
        console().print(line, markup=False, soft_wrap=True)
    return 0
