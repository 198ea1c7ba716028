"""The command `moodbench`, or `python -m moodbench`: Ctrl-C and SIGTERM end it with one line, even during imports."""

import gc
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


if __name__ == "__main__":
    main()
