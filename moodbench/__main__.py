"""The `moodbench` command, `python -m moodbench` as well: Ctrl-C ends it with one line, even while it still loads."""

import sys

from moodbench.errors import INTERRUPTED


def main() -> None:
    """Nothing; exits as `moodbench.cli.main` says, or with 130 when interrupted."""
    try:
        from moodbench.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        print("moodbench: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
