"""`moodbench mislabelled`: list test examples with a doubtful label: nearly all models confidently predict another."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from moodbench.analysis.mislabelled import LabelIssues, mislabelled
from moodbench.cli.options import add_json, add_store, existing_store, print_json
from moodbench.errors import StoreError, UsageError
from moodbench.report.files import replaced
from moodbench.report.tables import (
    MISLABELLED_EXPLAINED,
    MISLABELLED_HEADINGS,
    mislabelled_cells,
    mislabelled_heading,
)
from moodbench.report.terminal import make_console, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = __doc__
    parser.add_argument("--dataset", metavar="NAME", help="only this dataset; default: every one in the store")
    parser.add_argument("--most", type=int, default=20, metavar="N", help="so many of each; default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all of them to FILE, .csv or .json")
    parser.add_argument("--with-text", action="store_true", help="show the texts of your own data too")
    add_store(parser)
    add_json(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Print the first examples of each track, write all of them if a file is given, and return 0."""
    if arguments.most < 1:
        raise UsageError(f"--most {arguments.most}: allowed is 1 or more, such as 20")
    if arguments.out is not None and arguments.out.suffix not in (".csv", ".json"):
        raise UsageError(f"--out {arguments.out}: allowed is a name that ends in .csv or .json")
    by_track = mislabelled(existing_store(arguments.store), arguments.dataset)
    if arguments.out is not None:
        _write(by_track, arguments.out, arguments.with_text)
    if arguments.json:
        print_json([record for issues in by_track for record in issues.records(arguments.most, arguments.with_text)])
        return 0
    out = make_console()
    for issues in by_track:
        out.print(mislabelled_heading(issues), markup=False, soft_wrap=True, style="bold")
        texts = [
            record["text"] or f"{record['example_id']} (text not shown)"
            for record in issues.records(arguments.most, arguments.with_text)
        ]
        if texts:
            lines = [
                [*cells, text] for cells, text in zip(mislabelled_cells(issues, arguments.most), texts, strict=True)
            ]
            print_table([*MISLABELLED_HEADINGS, "Text"], lines, out, left={"Given", "Suggested", "Text"})
    out.print(MISLABELLED_EXPLAINED, markup=False, soft_wrap=True, style="dim")
    if arguments.out is not None:
        out.print(str(arguments.out), markup=False, soft_wrap=True)
    return 0


def _write(by_track: list[LabelIssues], path: Path, with_text: bool) -> None:
    records = [record for issues in by_track for record in issues.records(None, with_text)]
    if path.suffix == ".json":
        content = json.dumps(records, indent=1, ensure_ascii=False) + "\n"
    else:
        columns = [by_track[0].rows.columns.drop("private").insert(0, "track")][0]
        content = pd.DataFrame(records, columns=columns).to_csv(index=False)
    try:
        replaced(path, content.encode())
    except OSError as error:
        raise StoreError(f"--out {path}: cannot be written ({error.strerror or error}); give another file") from error
