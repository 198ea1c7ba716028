"""`python -m moodbench` is the `moodbench` command."""

from moodbench.cli import main

if __name__ == "__main__":
    main()
