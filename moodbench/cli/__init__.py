"""The command line: each command parses, calls one function and shows the result."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from moodbench import __version__
from moodbench.cli import (
    app,
    benchmark,
    catalogue,
    catalogue_pin,
    cluster,
    compact,
    compare,
    doctor,
    evaluate,
    export,
    export_model,
    fetch,
    guide,
    leaderboard,
    mislabelled,
    plan,
    predict,
    recipes,
    recompute,
    report,
    run,
    submit,
    track,
    train,
    train_all,
    tune,
    verify,
)
from moodbench.errors import MoodBenchError, is_of_disk

COMMANDS = (
    run,
    train,
    train_all,
    evaluate,
    benchmark,
    plan,
    tune,
    leaderboard,
    compare,
    mislabelled,
    predict,
    export_model,
    report,
    export,
    verify,
    recompute,
    compact,
    track,
    catalogue.MODELS,
    catalogue.DATASETS,
    recipes,
    catalogue_pin,
    fetch,
    guide,
    doctor,
    app,
    cluster,
    submit,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 if all went well, 1 if a trial or a check failed, 2 if the request cannot be carried out, 130 if
    interrupted.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(given, argparse.Namespace(argv=given))
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


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    made = argparse.ArgumentParser(
        prog="moodbench",
        description="Fine-tune, measure and rank small language models for sentiment analysis on your own hardware.",
        epilog="Start with: moodbench run quickstart",
    )
    made.add_argument("--version", action="version", version=f"moodbench {__version__}")
    commands = made.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return made
