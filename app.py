"""Show the results as a page, exactly as `moodbench app` does."""

import sys

from moodbench.cli import main

if __name__ == "__main__":
    main(["app", *sys.argv[1:]])
