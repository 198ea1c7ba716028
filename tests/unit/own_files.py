"""Contents of a person's own files, as spreadsheets and programs write them."""

import csv
import io
import json

import pandas as pd

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
