"""Shows the results as a page: the same as `moodbench app`."""

import sys

from moodbench.cli import main

if __name__ == "__main__":
    main(["app", *sys.argv[1:]])
