"""What a person can get wrong with data of their own: rows of the table in test_bad_input.py."""

import os
from pathlib import Path

from own_files import STARS, parquet, rows, table


def call(content, options=(), name="a.csv", columns=("text", "label")):
    """The command line of a run on a file with this content (None: no file)."""
    if content is not None:
        Path(name).write_bytes(content)
    text, label = columns
    return ["run", "--models", "vader", "--data", name, "--text-column", text, "--label-column", label, *options]


def huge(arguments):
    """The same call, its file stretched to 4 TiB of which the disk holds next to nothing."""
    with Path("a.csv").open("r+b") as file:
        file.truncate(4 * 2**40)
    return arguments


MAP = "1=negative,2=negative,4=positive,5=positive"
# the command line, then where, the value seen and what to do as its message must say
FILES = {
    "no file": (lambda: call(None), ["a.csv: No such file", "give the path of a file"]),
    "a folder": (lambda: Path("d.csv").mkdir() or call(None, name="d.csv"), ["d.csv: is a folder"]),
    "a named pipe": (
        lambda: os.mkfifo("a.csv") or call(None), ["a.csv: is a pipe or a device", "expected a regular file", "write it to a file first"]
    ),
    "an unknown ending": (lambda: call(b"x", name="a.doc"), ["ending '.doc' is not one of .csv, .tsv, .xlsx"]),
    "no ending": (lambda: call(b"x", name="reviews"), ["ending '(none)' is not one of"]),
    "empty": (lambda: call(b""), ["a.csv: the file is empty (0 bytes)"]),
    "larger than the memory": (
        lambda: huge(call(table(rows()))), ["a.csv: the columns to read have 4096.0 GiB unpacked", "at least 4 times as much memory", "a sample of its rows"]
    ),
    "white space": (lambda: call(b"\n \n"), ["contains only white space"]),
    "header only": (lambda: call(b"text,label\n"), ["a header but no rows"]),
    "binary": (lambda: call(b"text,label\nabc\0def,1\n"), ["is binary, not text (NUL at byte 14)"]),
    "UTF-16": (lambda: call("text,label\na,1\n".encode("utf-16")), ["is UTF-16 text", "iconv -f UTF-16 -t UTF-8"]),
    "UTF-32": (lambda: call("text,label\na,1\n".encode("utf-32")), ["is UTF-32 text", "iconv -f UTF-32 -t UTF-8"]),
    "wrong separator": (lambda: call(b"text:label\na:1\n"), ["a single column, 'text:label'", "comma, semicolon, tab, bar"]),
    "a comma in a tsv": (lambda: call(table(rows()), name="a.tsv"), ["a single column, 'text,label'", "(a .tsv file: tab)"]),
    "missing text column": (
        lambda: call(table(rows()), columns=("txt", "label")),
        ["no text column 'txt': did you mean 'text'? its columns are 'text', 'label'"],
    ),
    "missing label column": (lambda: call(table(rows()), columns=("text", "labels")), ["no label column 'labels'", "'label'"]),
    "missing split column": (lambda: call(table(rows()), ["--split-column", "fold"]), ["no split column 'fold'"]),
    "missing group column": (lambda: call(table(rows()), ["--group-column", "shop"]), ["no group column 'shop'"]),
    "a column twice in the header": (
        lambda: call(table([(*r, "x") for r in rows()], header=("text", "label", "text"))), ["'text' occurs 2 times"]
    ),
    "one column for both": (lambda: call(table(rows()), columns=("text", "text")), ["'text' is given two roles"]),
    "too many cells": (
        lambda: call(b"text,label\ngood, but dear,positive\n"),
        ["row 1 (line 2): 3 cells where the header has 2", "double quotes"],
    ),
    "an open quote": (lambda: call(b'text,label\n"open, so,positive\n'), ["a.csv: line 2: unexpected end of data", "double quotes in it are doubled"]),
    "a quote inside a cell, and a comma": (
        lambda: call(b'text,label\n"a, b",positive\n"a" b, "c",positive\n'), ["a.csv: line 3", "double quotes in it are doubled"]
    ),
    "a label outside the map": (
        lambda: call(table(STARS), ["--label-map", MAP]),
        ["row 3 (line 4): column 'label': '3' (60 rows) is not in the label map ('1', '2', '4', '5')", "VALUE=drop"],
    ),
    "a label outside the labels": (
        lambda: call(table([*rows(), ("odd", "meh")]), ["--labels", "negative,positive"]),
        ["row 151 (line 152)", "'meh' (1 rows) is not in the labels ('negative', 'positive')"],
    ),
    "a label that never comes": (
        lambda: call(table(rows()), ["--labels", "negative,neutral,positive"]), ["no row has class 'neutral'"]
    ),
    "one class": (lambda: call(table(rows(("positive",)))), ["only one class ('positive')", "possible are 2, 3 or 5"]),
    "four classes": (lambda: call(table(rows(("1", "2", "3", "4")))), ["4 classes ('1', '2', '3', '4')", "label map"]),
    "as many classes as rows": (lambda: call(table([(t, t) for t, _ in rows()])), ["150 classes", "..."]),
    "a map to four classes": (lambda: call(table(STARS), ["--label-map", "1=a,2=b,3=c,4=d,5=d"]), ["makes 4 classes (a, b, c, d)"]),
    "a map that drops all but one": (lambda: call(table(STARS), ["--label-map", "1=a,2=drop"]), ["makes 1 classes (a)"]),
    "a map without sense": (lambda: call(table(STARS), ["--label-map", "1:negative"]), ["'1:negative' is not LABEL=CLASS"]),
    "a label twice in a map": (lambda: call(table(STARS), ["--label-map", "1=a,1.0=b"]), ["--label-map: '1' is given twice ('a' and 'b')"]),
    "map and labels disagree": (
        lambda: call(table(STARS), ["--label-map", MAP, "--labels", "bad,good"]), ["must be the same", "['bad', 'good']"]
    ),
    "four labels": (lambda: call(table(rows()), ["--labels", "a,b,c,d"]), ["2, 3 or 5 different ones", "'d'"]),
    "a label twice": (lambda: call(table(rows()), ["--labels", "a,a"]), ["2, 3 or 5 different ones"]),
    "split and group column": (
        lambda: call(table(rows()), ["--split-column", "a", "--group-column", "b"]), ["cannot be combined"]
    ),
    "an unknown split": (
        lambda: call(table([(*r, "eval") for r in rows()], header=("text", "label", "part")), ["--split-column", "part"]),
        ["row 1 (line 2): split column 'part': 'eval' is not one of train, training, validation, valid, val, dev, test"],
    ),
    "no test split": (
        lambda: call(table([(*r, "train") for r in rows()], header=("text", "label", "part")), ["--split-column", "part"]),
        ["split column 'part' has no row of test; found are train"],
    ),
    "a class absent from test": (
        lambda: call(
            table(
                [(t, lb, "test" if i % 2 == 0 and i < 100 else "train") for i, (t, lb) in enumerate(rows(n=300))],
                header=("text", "label", "part"),
            ),
            ["--split-column", "part"],
        ),
        ["the test split has no text of class 'positive'", "or leave the split column out"],
    ),
    "a class absent from train": (
        lambda: call(
            table([(t, lb, "test" if i % 3 == 0 or lb == "positive" else ("train", "dev")[i % 3 - 1])
                   for i, (t, lb) in enumerate(rows(n=300))], header=("text", "label", "part")), ["--split-column", "part"]),
        ["the train split has no text of class 'positive'"],
    ),
    "a class that is rare": (
        lambda: call(table([*rows(), ("a single neutral word", "neutral")])), ["split has no text of class 'neutral'", "label map"]
    ),
    "few rows": (lambda: call(table(rows(n=40))), ["the validation split has 4 texts (of 40 usable ones), needed are at least 10"]),
    "one group": (
        lambda: call(table([(*r, "x") for r in rows()], header=("text", "label", "shop")), ["--group-column", "shop"]),
        ["the validation split has 0 texts", "a finer group column"],
    ),
    "numbers for texts": (
        lambda: call(table([(str(i), lb) for i, (_, lb) in enumerate(rows())])), ["column 'text': every cell is a number"]
    ),
    "no text in any row": (lambda: call(table([("", "1")] * 5)), ["none of its 5 rows can be used (5 without text)"]),
    "a JSON array": (lambda: call(b'[{"text": "a", "label": 1}]', name="a.jsonl"), ["line 1: a list; expected one JSON object"]),
    "broken JSON": (
        lambda: call(b'{"text": "a", "label": 1}\n{"text": \n', name="a.jsonl"), ["line 2: not JSON", "expected one object per line"]
    ),
    "a JSON key that is not there": (lambda: call(b'{"body": "a", "label": 1}\n', name="a.jsonl"), ["no text column 'text'", "'body'"]),
    "a number for a text in JSON": (
        lambda: call(b'{"text": 12, "label": 1}\n', name="a.jsonl"), ["line 1: column 'text': expected text, found int"]
    ),
    "a list for a label in JSON": (
        lambda: call(b'{"text": "a", "label": [1]}\n', name="a.jsonl"), ["line 1: column 'label'", "found list"]
    ),
    "half an emoji in JSON": (
        lambda: call(b'{"text": "oh \\ud83d", "label": 1}\n', name="a.jsonl"),
        ["line 1: column 'text': invalid Unicode", "at position 3"],
    ),
    "Parquet in name only": (lambda: call(b"text,label\n", name="a.parquet"), ["a.parquet: not a Parquet file"]),
    "truncated Parquet": (
        lambda: call(parquet(text=["a"], label=[1])[:-20], name="a.parquet"), ["a.parquet: not a Parquet file"]
    ),
    "numbers for texts in Parquet": (
        lambda: call(parquet(text=[1, 2], label=[0, 1]), name="a.parquet"), ["row 1: column 'text'", "found int"]
    ),
    "no text column given": (
        lambda: ["run", "--models", "vader", "--data", "a.csv", "--label-column", "y"], ["command line: data 'a.csv' needs text_column as well"]
    ),
    "columns without data": (
        lambda: ["run", "quickstart", "--text-column", "t", "--label-map", "1=a"], ["preset quickstart: text_column, label_map without data"]
    ),
    "no models": (lambda: ["run", *call(table(rows()))[3:]], ["nothing to run", "(or --data)"]),
    "a name that is taken": (
        lambda: call(table(rows()), ["--data-name", "icwsm-movie"]), ["the catalogue has a dataset 'icwsm-movie'; give another name"]
    ),
    "a name with a slash": (lambda: call(table(rows()), ["--data-name", "a/b"]), ["data_name 'a/b': allowed are letters"]),
    "a neutral band": (lambda: call(table(rows()), ["--neutral-band", "0.5"]), ["neutral_band 0.5", "has no mean ratings"]),
    "five classes for VADER": (
        lambda: call(table(STARS)), ["model vader: distinguishes 2 or 3 classes, dataset a has 5 (1, 2, 3, 4, 5)", "label map"]
    ),
}  # fmt: skip
