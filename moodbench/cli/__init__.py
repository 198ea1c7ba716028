"""The command line: run a command, print its errors to standard error and set the exit code."""

from __future__ import annotations

import argparse
import codecs
import gc
import io
import logging
import os
import re
import select
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from moodbench.cli.commands import MOVED, parser
from moodbench.errors import MoodBenchError, PrerequisiteError, UsageError, is_of_disk

PLAIN = {"–": "-", "—": "-", "·": "|", "…": "...", "×": "x", "±": "+-", "≥": ">=", "≤": "<=", "≈": "~", "→": "->"}
"""Characters of our own output to what an encoding without them gets instead."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 if all went well, 1 if a trial or a check failed, 2 if the request cannot be carried out, 130 if
    interrupted.
    """
    _print_with_any_encoding()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    with _Edge() as edge:
        edge.code = _run(list(sys.argv[1:] if argv is None else argv))
    with _Edge(edge.code) as end:
        sys.stdout.flush()
    sys.exit(end.code)


class _Edge:
    """The edge of a command: an exception becomes a message on standard error and the exit code."""

    def __init__(self, code: int = 0) -> None:
        self.code = code

    def __enter__(self) -> _Edge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):  # nothing, an interrupt, or an exit that argparse asks for
            return False
        has_reader = not isinstance(error, BrokenPipeError) or _has_reader()  # asked before anything is dropped
        is_unread = isinstance(error, OSError) and _drop_unwritten()
        if not has_reader:  # the reader of standard output, such as `head`, has all that it wants
            return True
        if is_unread and isinstance(error, OSError) and not error.filename:
            reason = f"{error.strerror}; what it should get is incomplete"
            message = f"standard output: {reason}. Committed results are safe."
        else:
            message = _message(error)
        with suppress(OSError):  # standard error may be as full as the disk
            print(f"moodbench: {_printable(message)}", file=sys.stderr)
        self.code = 2
        return True


def _message(error: Exception) -> str:
    if isinstance(error, MoodBenchError):
        return str(error)
    if isinstance(error, OSError) and (error.filename or is_of_disk(error)):
        path = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        reason = error.strerror or str(error).splitlines()[0]
        if is_of_disk(error):
            return (
                f"{path}{reason}. Committed results are safe. Free disk space or pass another --store, then rerun the "
                "command to resume."
            )
        return f"{path}{reason}; check this path and its permissions. Committed results are safe."
    return _fault(error)


def _fault(error: Exception) -> str:
    """Return a message about an error of our own, whose traceback is kept in a file."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    lines = str(error).splitlines()
    what = f"{type(error).__name__}{f': {lines[0][:300]}' if lines else ''}"
    kept = ""
    with suppress(OSError):
        handle, name = tempfile.mkstemp(prefix="moodbench-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            traceback.print_exception(error, file=file)
        kept = f" and the file {name}, which has the details"
    return (
        f"an error of MoodBench itself, not of your request: {what} ({Path(at.filename).name}, line {at.lineno}). "
        f"Committed results are safe. Please report it to {_report_to()}, with the command, the output of `moodbench "
        f"doctor`{kept}."
    )


def _report_to() -> str:
    """Return where faults are reported: the first issue tracker among the project's URLs, else its maintainers."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        named = metadata("moodbench").get_all("Project-URL") or []
    except PackageNotFoundError:
        named = []
    pages = [page.partition(", ")[::2] for page in named]
    trackers = (url for label, url in pages if re.search(r"issue|tracker|bug", label, re.IGNORECASE))
    return next(trackers, "the maintainers of MoodBench, or whoever installed it for you")


def _printable(message: str) -> str:
    """Return `message` with escapes for control characters and bytes that are no text, which names can contain."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in message)


def _print_with_any_encoding() -> None:
    """Let standard output and error write every character: a terminal or a pipe may lack some of them."""
    codecs.register_error("moodbench", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="moodbench")


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for characters that an encoding lacks: PLAIN ones, else backslash escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    given = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in given), error.end


def _has_reader() -> bool:
    """Return whether somebody still reads standard output; a pipe to a worker may be what broke instead."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # no file of the system
        return True
    asked = select.poll()
    asked.register(number, 0)
    return not any(state & select.POLLERR for _, state in asked.poll(0))


def _drop_unwritten() -> bool:
    """Give up what standard output cannot write, and return whether there was any.

    Otherwise the interpreter would try again when it exits.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _run(argv: list[str]) -> int:
    name = next((argument for argument in argv if not argument.startswith("-")), "")
    if name in MOVED:
        raise UsageError(f"moodbench {name} is now `moodbench {MOVED[name]}`")
    arguments = parser(name).parse_args(argv, argparse.Namespace(argv=argv))
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise PrerequisiteError(
            "the working folder no longer exists; change to another one with `cd`, then run the command again"
        ) from error
    if not gc.isenabled():  # in a process of its own: what the imports made stays until the end
        gc.freeze()
        gc.enable()
    return int(arguments.command(arguments))
