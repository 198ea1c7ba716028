"""What can be wrong with a results folder: rows of the table in test_bad_input.py."""

import errno
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from toy_store import EVALUATION_ID, MEASUREMENT_ID, toy_fit

FIT_ID = toy_fit().fit_id
FIT, EVALUATION = f"fits/{FIT_ID[:2]}/{FIT_ID}.parquet", f"evaluations/e0/{EVALUATION_ID}.parquet"
MEASUREMENT = f"measurements/c0/{MEASUREMENT_ID}.parquet"
BOARD = ["leaderboard", "--store", "results"]
RUN = ["run", "--models", "vader", "--datasets", "icwsm-tweets", "--executor", "inline", "--store"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)


def version(path, value):
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"moodbench.schema_version": value}), path)


def twice(path):
    table = pq.read_table(path, partitioning=None)
    pq.write_table(pa.concat_tables([table, table]), path)


def refuse(monkeypatch, target, number, when=lambda *_: True):
    """From now on the system call behind `target` fails with this error where `when` says so."""
    module, _, name = target.rpartition(".")
    whole = getattr(__import__("os") if module == "os" else module, name)

    def failing(*arguments, **options):
        if when(*arguments):
            raise OSError(number, os.strerror(number), str(arguments[0]))
        return whole(*arguments, **options)

    monkeypatch.setattr(target, failing)


def unlistable(monkeypatch):
    """A folder that cannot be listed; a test that runs as root meets none, so the refusal is given at the system call."""
    refuse(monkeypatch, "os.scandir", errno.EACCES, lambda path, *_: str(path).endswith("fits"))


# what was done to the folder of a good store, the command, what the message must say
STORES = {
    "a record cut short": (lambda p, _: cut(p / FIT), BOARD, [f"{FIT}: cannot be read as Parquet", "run the same command again"]),
    "an empty record": (lambda p, _: (p / EVALUATION).write_bytes(b""), BOARD, [f"{EVALUATION}: cannot be read as Parquet"]),
    "a damaged record": (lambda p, _: flip(p / MEASUREMENT), BOARD, [f"{MEASUREMENT}: cannot be read as Parquet"]),
    "a text file as record": (lambda p, _: (p / FIT).write_text("fit"), BOARD, [f"{FIT}: cannot be read as Parquet"]),
    "a record of two rows": (lambda p, _: twice(p / FIT), BOARD, ["holds 2 rows, a record is one"]),
    "a record that is not ours": (
        lambda p, _: pd.DataFrame({"price": [1]}).to_parquet(p / FIT), BOARD, [f"{FIT}: not written by MoodBench"]
    ),
    "a newer schema of a fit": (
        lambda p, _: version(p / FIT, b"3"), BOARD, ["has schema version 3, this program reads version 2", "upgrade moodbench"]
    ),
    "a newer schema of an evaluation": (lambda p, _: version(p / EVALUATION, b"9.1"), BOARD, ["has schema version 9.1"]),
    "a newer schema of a measurement": (lambda p, _: version(p / MEASUREMENT, b"3"), BOARD, ["has schema version 3"]),
    "recomputing a newer store": (lambda p, _: version(p / EVALUATION, b"3"), ["store", "recompute", "--store", "results"], ["schema version 3"]),
    **{
        f"{' '.join(command[:2])} on a store of an earlier version": (
            lambda p, _: version(p / FIT, b"1.6"),
            command,
            ["written by an earlier version of MoodBench (schema version 1.6", "stay readable", "another folder with --store"],
        )
        for command in (BOARD, [*RUN, "results"], ["store", "verify", "--set-aside", "--store", "results"], ["report", "--store", "results"],
                        ["store", "compact", "--store", "results"])
    },
    "compacting a damaged store": (lambda p, _: cut(p / FIT), ["store", "compact", "--store", "results"], [f"{FIT}: cannot be read"]),
    "exporting a damaged store": (
        lambda p, _: cut(p / EVALUATION), ["export", "--format", "csv", "--store", "results"], [f"{EVALUATION}: cannot be read"]
    ),
    "missing predictions": (
        lambda p, _: next((p / "predictions").rglob("*.parquet")).unlink(),
        ["store", "recompute", "--store", "results"],
        [f"{EVALUATION_ID}.parquet: is missing, though a record names it", "moodbench store verify", "run the same command again"],
    ),
    "predictions cut short": (
        lambda p, _: cut(next((p / "predictions").rglob("*.parquet"))), ["store", "recompute", "--store", "results"], ["cannot be read as Parquet"]
    ),
    "missing samples": (
        lambda p, _: next((p / "samples").rglob("*.parquet")).unlink(), ["store", "recompute", "--store", "results"], ["is missing, though"]
    ),
    "a store that cannot be listed": (
        lambda p, m: unlistable(m), BOARD, ["fits: cannot be listed (Permission denied)", "give another folder with --store"]
    ),
    "verifying a store that cannot be listed": (
        lambda p, m: unlistable(m), ["store", "verify", "--store", "results"], ["fits: cannot be listed (Permission denied)"]
    ),
    "a read-only file system": (
        lambda p, m: refuse(m, "os.link", errno.EROFS), [*RUN, "results"], ["cannot be written (Read-only file system)"]
    ),
    "no rights to write": (
        lambda p, m: refuse(m, "os.link", errno.EACCES), [*RUN, "results"], ["cannot be written (Permission denied); change its permissions"]
    ),
    "a file system without hard links": (
        lambda p, m: refuse(m, "os.link", errno.EPERM), [*RUN, "results"], ["cannot be written (Operation not permitted)"]
    ),
    "a disk that fills while the examples are written": (
        lambda p, m: refuse(m, "os.link", errno.ENOSPC, lambda a, b: "examples" in str(b)),
        [*RUN, "results"],
        ["No space left on device. Committed results are safe. Free disk space or pass another --store", "rerun the command to resume"],
    ),
    "a quota that ends while the examples are written": (
        lambda p, m: refuse(m, "os.link", errno.EDQUOT, lambda a, b: "examples" in str(b)), [*RUN, "results"], ["Committed results are safe"]
    ),
    "a file for a folder": (lambda p, _: Path("file").write_text(""), [*RUN, "file"], ["file: is a file; give a folder"]),
    "someone else's folder": (
        lambda p, _: (Path("thesis").mkdir(), Path("thesis/a.tex").write_text("")), [*RUN, "thesis"], ["is not a MoodBench store (it holds a.tex)"]
    ),
    "no records": (lambda p, _: Path("none").mkdir(), ["store", "verify", "--store", "none"], ["--store none: holds no records"]),
    "an unknown scheme": (lambda p, _: None, ["leaderboard", "--store", "ftq://host/x"], ["ftq://host/x", "give a folder or a URI"]),
    "a checkpoint interval that is no number": (
        lambda p, m: m.setenv("MOODBENCH_CHECKPOINT_S", "often"), [*RUN, "results"], ["MOODBENCH_CHECKPOINT_S='often': allowed is a number"]
    ),
    "a checkpoint interval of nothing": (
        lambda p, m: m.setenv("MOODBENCH_CHECKPOINT_S", "0"), [*RUN, "results"], ["MOODBENCH_CHECKPOINT_S='0': allowed is a number"]
    ),
}  # fmt: skip
