"""The command `moodbench`, or `python -m moodbench`: Ctrl-C and SIGTERM end it with one line, even during imports."""

import gc
import os
import signal
import sys
from types import FrameType

from moodbench.errors import INTERRUPTED, TERMINATED


class Terminated(KeyboardInterrupt):
    """Raised when SIGTERM arrives.

    A subclass, because Python itself ends by SIGINT once a plain KeyboardInterrupt has passed through code given to
    `exec`.
    """


def main() -> None:
    """Run the command line and exit with its code, or with 130 after Ctrl-C and 143 after SIGTERM.

    SIGTERM interrupts a command exactly as Ctrl-C does, so the same cleanup runs after both; only the exit code
    differs.
    """
    terminated = False
    _open_closed_streams()

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal terminated
        terminated = True
        raise Terminated

    signal.signal(signal.SIGTERM, end)
    gc.disable()  # until the command is imported: imports make many objects and little garbage
    try:
        from moodbench.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        print("moodbench: interrupted", file=sys.stderr)
        sys.exit(TERMINATED if terminated else INTERRUPTED)
    except SystemExit:
        if terminated:
            sys.exit(TERMINATED)
        raise


def _open_closed_streams() -> None:
    """Open the null device in place of closed standard streams.

    Otherwise the next file that is opened, such as a record, would get their numbers and all that is printed.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    main()
