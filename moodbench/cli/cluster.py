"""`moodbench cluster status`: show the nodes of a Ray cluster, their classes and tags, and which models fit where."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import asdict

from moodbench.benchmark.cluster_status import cells, sentences, status
from moodbench.benchmark.what_fits import WhatFits
from moodbench.cli.options import add_cluster, add_config, add_json, address_of, print_json
from moodbench.config import load_catalogue
from moodbench.config.cluster import read_cluster_file
from moodbench.errors import UsageError
from moodbench.hardware import hardware
from moodbench.report.terminal import make_console, print_table

HEADINGS = (
    "Node",
    "Address",
    "Class",
    "Tags",
    "CPUs",
    "Memory GiB",
    "GPUs",
    "Per hour",
    "Isolation",
    "Models that fit",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = __doc__
    parser.add_argument("what", choices=("status",), help="status: one line per node")
    add_cluster(parser)
    add_config(parser)
    add_json(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Print the nodes, and which models fit where by the estimates that a run uses; return 0."""
    address, said = address_of(arguments)
    if address is None:
        raise UsageError(
            "cluster status: which cluster? give --address HOST:PORT of its head, or auto on one of its nodes"
        )
    catalogue = load_catalogue(arguments.config)
    rules = read_cluster_file(arguments.cluster, catalogue.devices)
    from moodbench.runtime.ray_cluster import ClusterExecutor

    with closing(ClusterExecutor(address, said=said)) as cluster:
        rows = status(cluster.alive(), rules, WhatFits(catalogue, hardware()))
    if arguments.json:
        print_json([asdict(row) for row in rows])
        return 0
    left = {"Node", "Address", "Class", "Tags", "Isolation", "Models that fit"}
    out = make_console()
    print_table(HEADINGS, cells(rows), out, left=left)
    out.print()
    for line in sentences(rows):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0
