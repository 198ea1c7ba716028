"""`moodbench verify`: check that every record of a store matches what its files give."""

from __future__ import annotations

import argparse

from moodbench.cli.options import add_json, add_store, existing_store, print_json
from moodbench.report.terminal import make_console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = __doc__
    add_store(parser)
    parser.add_argument(
        "--set-aside",
        action="store_true",
        help="move what differs, with its files and what rests on it, to duplicates/; the command that made it makes "
        "it anew",
    )
    add_json(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Print what differs; return 0 if nothing does or it was set aside, otherwise 1."""
    from moodbench.store.verify import set_aside, verify

    store = existing_store(arguments.store)
    if arguments.set_aside:
        store.check_writable()
    found = verify(store.location)
    moved = set_aside(store.location, found) if arguments.set_aside and found.differences else []
    code = 1 if found.differences and not moved else 0
    if arguments.json:
        differences = [difference._asdict() for difference in found.differences]
        print_json({**vars(found), "differences": differences, "set_aside": moved})
        return code
    out = make_console()
    lines = [f"{d.kind} {d.id}: {d.column}: stored {d.stored}, recomputed {d.recomputed}" for d in found.differences]
    lines += [f"no record names {key}" for key in found.orphans]
    lines += [f"left in staging: {key} (safe to delete when nothing runs)" for key in found.leftovers]
    number = len(found.differences)
    verdict = "nothing differs" if not number else f"{number} difference{'s' if number > 1 else ''}"
    lines.append(f"{found.num_records:,} records and {found.num_files:,} files checked: {verdict}.")
    lines += [f"set aside: {key}" for key in moved]
    if moved:
        lines.append("What was set aside is in duplicates/; the command that made it makes it anew.")
    elif number:
        lines.append("`moodbench verify --set-aside` moves what differs out of the way, to be made anew.")
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)
    return code
