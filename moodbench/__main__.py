"""The `moodbench` command, `python -m moodbench` as well: Ctrl-C and SIGTERM end it with one line, even while it loads."""

import signal
import sys
from types import FrameType

from moodbench.errors import INTERRUPTED, TERMINATED


class Terminated(KeyboardInterrupt):
    """SIGTERM came. A kind of its own, as Python ends by SIGINT whenever a plain one has passed through text given to `exec`."""


def main() -> None:
    """Nothing; exits as `moodbench.cli.main` says, or with 130 when interrupted and 143 when ended by SIGTERM.

    SIGTERM interrupts a command just as Ctrl-C does, so that everything which cleans up after the one does so after the
    other; the exit code alone tells them apart.
    """
    terminated = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal terminated
        terminated = True
        raise Terminated

    signal.signal(signal.SIGTERM, end)
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
