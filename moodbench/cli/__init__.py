"""The command line: run a command, print its errors to standard error and set the exit code."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Sequence

from moodbench.cli.commands import MOVED, parser
from moodbench.errors import MoodBenchError, UsageError, is_of_disk


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 if all went well, 1 if a trial or a check failed, 2 if the request cannot be carried out, 130 if
    interrupted.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
    except MoodBenchError as error:
        print(f"moodbench: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except OSError as error:
        if not is_of_disk(error):
            raise
        path = f"{error.filename}: " if error.filename else ""
        reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
        print(
            f"moodbench: {path}{reason}. Committed results are safe. Free disk space or pass another --store, then "
            "rerun the command to resume.",
            file=sys.stderr,
        )
        code = 2
    sys.exit(code)


def _run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    name = next((argument for argument in argv if not argument.startswith("-")), "")
    if name in MOVED:
        raise UsageError(f"moodbench {name} is now `moodbench {MOVED[name]}`")
    arguments = parser(name).parse_args(argv, argparse.Namespace(argv=argv))
    if not gc.isenabled():  # in a process of its own: what the imports made stays until the end
        gc.freeze()
        gc.enable()
    return int(arguments.command(arguments))
