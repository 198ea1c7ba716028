"""`moodbench cluster status` shows the nodes of a Ray cluster; `moodbench submit` runs a command there as a job."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from moodbench.benchmark.cluster_status import WhatFits, cells, sentences, status
from moodbench.cli.options import add_action, add_actions, add_options, address_of, print_json, print_lines
from moodbench.config import load_catalogue
from moodbench.config.cluster import read_cluster_file
from moodbench.errors import UsageError
from moodbench.hardware import hardware
from moodbench.report.terminal import make_console, print_table

HEADINGS = ("Node", "Address", "Class", "Tags", "CPUs", "Memory GiB", "GPUs", "Per hour", "Isolation",
            "Models that fit")  # fmt: skip
LEFT = {"Node", "Address", "Class", "Tags", "Isolation", "Models that fit"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the only action of `moodbench cluster`."""
    actions = add_actions(parser, "Show the nodes of a Ray cluster, their classes and tags, and which models fit where")
    shown = add_action(actions, "status", show_status, "print one line per node")
    add_options(shown, "--address", "--cluster", "--config", "--json")


def add_submit(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench submit`."""
    parser.description = (
        "Run `moodbench COMMAND` as a job of a Ray cluster, follow its log, and end with its exit status. "
        "Files that COMMAND names by a relative path are sent along. The cluster's token is read from "
        "RAY_AUTH_TOKEN_PATH."
    )
    parser.add_argument(
        "--address",
        required=True,
        metavar="http://HEAD:8265",
        help="the job server of Ray's head: the port of its dashboard",
    )
    parser.add_argument(
        "--working-dir",
        type=Path,
        metavar="DIR",
        help="send this whole folder instead of only the files that COMMAND names",
    )
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND ...",
        help="such as: -- run SPEC.yaml --store /shared/results",
    )
    parser.set_defaults(command=submit)


def show_status(arguments: argparse.Namespace) -> int:
    """Print the nodes, and which models fit where by the estimates that a run uses; return 0."""
    address, source = address_of(arguments)
    if address is None:
        raise UsageError(
            "cluster status: which cluster? Give --address HOST:PORT of its head, or auto on one of its nodes"
        )
    catalogue = load_catalogue(arguments.config)
    rules = read_cluster_file(arguments.cluster, catalogue.devices)
    from moodbench.runtime.ray_cluster import ClusterExecutor

    with closing(ClusterExecutor(address, source=source)) as cluster:
        rows = status(cluster.alive(), rules, WhatFits(catalogue, hardware()))
    if arguments.json:
        print_json([asdict(row) for row in rows])
        return 0
    out = make_console()
    print_table(HEADINGS, cells(rows), out, left=LEFT)
    print_lines(out, ["", *sentences(rows)])
    return 0


def submit(arguments: argparse.Namespace) -> int:
    """Submit the job and return the exit status of its command; 130 if interrupted, while the job keeps running."""
    command = arguments.arguments[1:] if arguments.arguments[:1] == ["--"] else arguments.arguments
    if not command:
        raise UsageError("submit: no command; give one after --, such as: -- run quickstart --store /shared/results")
    if arguments.working_dir is not None and not arguments.working_dir.is_dir():
        raise UsageError(f"--working-dir {arguments.working_dir}: is not a folder")
    from moodbench.runtime.ray_jobs import submit as submit_job

    def say(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    return submit_job(arguments.address, command, working_dir=arguments.working_dir, say=say)
