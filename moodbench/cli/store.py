"""`moodbench store` verifies, recomputes or compacts a store; `moodbench track` logs its trials elsewhere."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from moodbench.analysis.cache import cached_results
from moodbench.cli.options import add_action, add_actions, add_options, existing_store, print_json, print_lines
from moodbench.hardware import hardware
from moodbench.report.terminal import make_console
from moodbench.store.reading import compact
from moodbench.store.schema import RECORDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and actions of `moodbench store`."""
    actions = add_actions(parser, "Check a store, recompute its figures, or make it open quickly.")
    verify = add_action(actions, "verify", verify_store, "check that every record matches what its files give")
    verify.add_argument(
        "--set-aside",
        action="store_true",
        help="move what differs, with its files and what depends on it, to duplicates/; the command that made it "
        "makes it again",
    )
    add_options(verify, "--json")
    recompute = add_action(
        actions, "recompute", recompute_store, "write tables of scores and percentiles recomputed from stored samples"
    )
    combine = add_action(
        actions, "compact", compact_store, "write the records of each kind into one file: a large store opens quickly"
    )
    for action in (verify, recompute, combine):
        add_options(action, "--store")


def add_track(parser: argparse.ArgumentParser) -> None:
    """Add the description and the only action of `moodbench track`."""
    actions = add_actions(
        parser,
        "A run does this at its end; MOODBENCH_TRACKING=off disables it. MLFLOW_TRACKING_URI names the MLflow server "
        "or database; the default is a SQLite file in the store.",
    )
    sync = add_action(actions, "sync", track, "log the trials that are not there yet; it can be repeated")
    add_options(sync, "--store", "--json")


def verify_store(arguments: argparse.Namespace) -> int:
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
    lines = [f"{d.kind} {d.id}: {d.column}: stored {d.stored}, recomputed {d.recomputed}" for d in found.differences]
    lines += [f"no record names {key}" for key in found.orphans]
    lines += [f"left in staging: {key} (safe to delete when nothing runs)" for key in found.leftovers]
    number = len(found.differences)
    verdict = "nothing differs" if not number else f"{number} difference{'s' if number > 1 else ''}"
    lines.append(f"{found.num_records:,} records and {found.num_files:,} files checked: {verdict}.")
    lines += [f"set aside: {key}" for key in moved]
    if moved:
        lines.append("What was set aside is in duplicates/; the command that made it makes it again.")
    elif number:
        lines.append("`moodbench store verify --set-aside` moves what differs out of the way, to be made again.")
    print_lines(make_console(), lines)
    return code


def recompute_store(arguments: argparse.Namespace) -> int:
    """Write the tables beside the records, which stay as they are; print how many records differ, and return 0."""
    from moodbench.store.recompute import KINDS, recompute

    store = existing_store(arguments.store)
    store.check_writable()
    for kind in KINDS:
        made = recompute(store, kind)
        line = (
            f"{made.key}: {made.num_records:,} records recomputed, {len(made.differing):,} differ from what is stored"
        )
        hint = "; `moodbench store verify` lists the differences" if made.differing else ""
        print_lines(make_console(), [line + hint])
    return 0


def compact_store(arguments: argparse.Namespace) -> int:
    """Write the snapshots and, for a large store, the cached results of the page; return 0.

    Both are caches: deleting them loses nothing.
    """
    store = existing_store(arguments.store)
    store.check_writable()
    for kind in RECORDS:
        made = compact(store.location, kind)
        line = f"{made.key}: {made.num_records:,} records, {made.num_read:,} of them newly read"
        print_lines(make_console(), [line])
    cached_results(store, hardware(), in_store=True)
    return 0


def track(arguments: argparse.Namespace) -> int:
    """Log the trials, print what was new and where it is, and return 0."""
    from moodbench.tracking import sync

    synced = sync(existing_store(arguments.store))
    if arguments.json:
        print_json(asdict(synced))
        return 0
    new = f"{synced.num_trials} trials; new in MLflow: {synced.num_new_in_mlflow}"
    lines = [new, f"MLflow:      uvx mlflow ui --backend-store-uri {synced.mlflow_uri}"]
    if synced.tensorboard_folder:
        lines[0] += f", in TensorBoard: {synced.num_new_in_tensorboard}"
        lines.append(f"TensorBoard: uvx tensorboard --logdir {synced.tensorboard_folder}")
    print_lines(make_console(), lines)
    return 0
