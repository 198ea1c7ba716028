"""`moodbench submit`: run a moodbench command as a Ray cluster job, follow its log, and end with its exit status."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from moodbench.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "Run `moodbench COMMAND` as a job of a Ray cluster, follow its log, and end with its exit status. "
        "Files that COMMAND names by a relative path go along. The cluster's token is read from RAY_AUTH_TOKEN_PATH."
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
        "words",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND ...",
        help="such as: -- run SPEC.yaml --store /shared/results",
    )
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Submit the job and return the exit status of its command; 130 if interrupted, while the job keeps running."""
    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    if not words:
        raise UsageError("submit: no command; give one after --, such as: -- run quickstart --store /shared/results")
    if arguments.working_dir is not None and not arguments.working_dir.is_dir():
        raise UsageError(f"--working-dir {arguments.working_dir}: is no folder")
    from moodbench.runtime.ray_jobs import submit

    def say(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    return submit(arguments.address, words, working_dir=arguments.working_dir, say=say)
