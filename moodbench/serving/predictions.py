"""Output of predictions as they are made: to standard output at once, to a file that appears when complete."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal
from uuid import uuid4

from moodbench.errors import PrerequisiteError, UsageError, is_of_disk
from moodbench.serving.classifier import Prediction
from moodbench.serving.texts import STANDARD

Format = Literal["jsonl", "csv"]


def write_predictions(
    chunks: Iterable[Sequence[str]],
    predict: Callable[[Sequence[str]], Sequence[Prediction]],
    out: BinaryIO,
    *,
    labels: Sequence[str],
    format: Format = "jsonl",
    extra: Collection[str] = (),
) -> int:
    """Write the predictions of all texts to `out`, in order, and return the number of texts.

    The predictions of a chunk are written as soon as they are made. Columns: index (0, 1, ... in the order of the
    input), label, probability, truncated. `extra` may add `probabilities`, one of each label, and `text`, which is left
    out by default because it may be private.
    """
    fields = ["index", "label", "probability", "truncated", *(n for n in ("probabilities", "text") if n in extra)]
    if format == "csv":
        columns = [[f"probability_{label}" for label in labels] if n == "probabilities" else [n] for n in fields]
        out.write(_csv_rows([[name for names in columns for name in names]]))
    index = 0
    for texts in chunks:
        rows = []
        for text, made in zip(texts, predict(texts), strict=True):
            row = {"index": index, **made._asdict(), "text": text}
            rows.append({name: row[name] for name in fields})
            index += 1
        out.write(_csv_rows(map(_flat, rows)) if format == "csv" else _json_lines(rows))
        out.flush()
    return index


def _json_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode("utf-8")


def _flat(row: dict[str, Any]) -> list[Any]:
    """Return the cells of a row in the order of the header."""
    cells: list[Any] = []
    for name, value in row.items():
        if name == "probabilities":
            cells += value.values()
        else:
            cells.append(str(value).lower() if name == "truncated" else value)
    return cells


def _csv_rows(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8")


@contextmanager
def open_output(target: str, source: str) -> Iterator[BinaryIO]:
    """Yield a binary file: standard output, or a temporary file beside `target` that is renamed to it on success.

    Raises: UsageError if `target` is a folder or the `source` itself; PrerequisiteError if it cannot be written.
    """
    if target == STANDARD:
        yield sys.stdout.buffer
        return
    path = Path(target)
    if path.is_dir():
        raise UsageError(f"--output {target}: is a folder; give a file's name")
    if source != STANDARD and path.exists() and path.samefile(source):
        raise UsageError(f"--output {target}: is the input; give another name")
    started = False
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        with partial.open("xb") as file:
            started = True
            yield file
        partial.replace(path)
    except OSError as error:
        if started and not is_of_disk(error):
            raise  # an error of the input or the model
        raise PrerequisiteError(f"--output {target}: {error.strerror}; nothing was written there") from error
    finally:
        partial.unlink(missing_ok=True)
