"""Contents of a person's own files, as spreadsheets and programs write them, and how tests read them."""

import csv
import io
import json
from pathlib import Path

import pandas as pd

from moodbench.config.schema import FileSource
from moodbench.data.own import load_own

N = 150


def sentence(i):
    """Sentences of which no two are alike."""
    return f"sentence{i} says thing{i} about item{i}"


def rows(labels=("negative", "positive"), n=N):
    return [(sentence(i), labels[i % len(labels)]) for i in range(n)]


def table(lines, separator=",", header=("text", "label")):
    """CSV bytes as a spreadsheet writes them."""
    out = io.StringIO()
    csv.writer(out, delimiter=separator).writerows([header, *lines])
    return out.getvalue().encode()


def json_lines(objects):
    return "".join(json.dumps(o) + "\n" for o in objects).encode()


def parquet(**parts):
    out = io.BytesIO()
    pd.DataFrame(parts).to_parquet(out)
    return out.getvalue()


STARS = rows(("1", "2", "3", "4", "5"), 300)
SPLIT = [(t, lb, ("train", "Dev", "TEST")[i // 2 % 3]) for i, (t, lb) in enumerate(rows())]

# Texts that trip a reader: nothing, line breaks, separators, quotes, other alphabets, white space at the ends.
TEXTS = ["A fine film.", "", "two\nlines, with a comma", 'she said "no"', "schön 🎬 \u2028 end", "  spaces  "]


def write_csv(path, rows, *, delimiter=",", encoding="utf-8", newline="\r\n"):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=newline).writerows(rows)
    Path(path).write_bytes(text.getvalue().encode(encoding))


def source(path, **more):
    return FileSource(path=str(path), **({"text_column": "text", "label_column": "label"} | more))


def load(name, content, **more):
    Path(name).write_bytes(content)
    return load_own("mine", source(name, **more))


def splits_of(data):
    return dict(zip(data.frame["text"], data.frame["split"], strict=True))
