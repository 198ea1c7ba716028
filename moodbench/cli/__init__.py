"""The command line: each command parses, calls one function and shows the result."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Sequence

from moodbench.cli.commands import parser
from moodbench.errors import MoodBenchError, is_of_disk


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 if all went well, 1 if a trial or a check failed, 2 if the request cannot be carried out, 130 if
    interrupted.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in given if not word.startswith("-")), "")
    arguments = parser(name).parse_args(given, argparse.Namespace(argv=given))
    if not gc.isenabled():  # in a process of its own: what the imports made stays until the end
        gc.freeze()
        gc.enable()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        code = arguments.command(arguments)
    except MoodBenchError as error:
        print(f"moodbench: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except OSError as error:
        if not is_of_disk(error):
            raise
        place = f"{error.filename}: " if error.filename else ""
        reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
        print(
            f"moodbench: {place}{reason}. What was committed is kept; make room, or give another place "
            "with --store, and the same command does the rest",
            file=sys.stderr,
        )
        code = 2
    sys.exit(code)
