"""Target of a command: this machine, or the cluster that an option or RAY_ADDRESS names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rich.console import Console

from moodbench.benchmark.cluster_target import ClusterTarget
from moodbench.benchmark.context import RunContext, cluster_target
from moodbench.cli.options import add_cluster, address_of
from moodbench.config import Catalogue
from moodbench.config.cluster import read_cluster_file
from moodbench.errors import UsageError
from moodbench.hardware import hardware
from moodbench.store import Store


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add `--executor`, `--address` and `--cluster`."""
    parser.add_argument(
        "--executor",
        choices=("ray", "inline"),
        default="ray",
        help="ray packs trials on this machine's processors; inline runs them in this process, for debugging",
    )
    add_cluster(parser)


@contextmanager
def open_context(arguments: argparse.Namespace, catalogue: Catalogue, console: Console) -> Iterator[RunContext]:
    """Yield the context of a command: its store, and this machine or the cluster to run on.

    Prints the nodes of the cluster.
    """
    store = Store.open(arguments.store)
    target = _cluster(arguments, catalogue, store, console)
    if target is None:
        yield RunContext(store, catalogue, hardware(), executor=getattr(arguments, "executor", "ray"))
    else:
        with closing(target):
            yield RunContext(store, catalogue, target.machine, target)


def _cluster(
    arguments: argparse.Namespace, catalogue: Catalogue, store: Store, console: Console
) -> ClusterTarget | None:
    """Return the cluster that the command line or RAY_ADDRESS names, and print its nodes; None for this machine."""
    address, said = address_of(arguments)
    if address is None:
        if arguments.cluster is not None:
            raise UsageError(f"--cluster {arguments.cluster}: has no use on this machine alone; give --address too")
        return None
    if arguments.executor == "inline":
        raise UsageError(f"--executor inline runs on this machine, {said} {address} names a cluster; give one of them")
    if (
        "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
        and "://" not in arguments.store
        and not Path(arguments.store).is_absolute()
    ):
        raise UsageError(
            f"--store {arguments.store}: a submitted job runs in a temporary folder that goes with it; "
            "give --store as an absolute path that all nodes share, or as a URI"
        )
    rules = read_cluster_file(arguments.cluster, catalogue.devices)
    target = cluster_target(address, store, rules, said=said)
    nodes = ", ".join(f"{node.name} ({node.kind}, {node.num_cpus:g} CPUs)" for node in target.nodes())
    console.print(f"Cluster at {address}: {nodes}", markup=False, soft_wrap=True)
    without = target.without_lease()
    if without:
        console.print(
            f"{', '.join(without)}: no resource `exclusive`, so a measurement there holds a placement group over the "
            "whole node instead; work of others that asks for no CPUs is not kept away. "
            "Start nodes with --resources='{\"exclusive\": 1}'",
            markup=False,
            soft_wrap=True,
        )
    return target
