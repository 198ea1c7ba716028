"""`python -m moodbench.tracking STORE`: the process that a run starts at its end to sync its records."""

import sys

from moodbench.errors import MoodBenchError
from moodbench.store import Store
from moodbench.tracking.sync import sync

if __name__ == "__main__":
    try:
        sync(Store.open(sys.argv[1]))
    except MoodBenchError as problem:
        sys.exit(str(problem))
