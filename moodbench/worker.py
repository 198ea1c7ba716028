"""One process, one job: run phases and commit them (`python -m moodbench.worker`)."""
