"""`moodbench compare` compares two models; `moodbench mislabelled` lists test examples with a doubtful label."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from moodbench.analysis.mislabelled import LabelIssues, mislabelled
from moodbench.analysis.pairwise import Comparison, compare_models
from moodbench.cli.options import add_options, existing_store, print_json, print_lines
from moodbench.errors import UsageError
from moodbench.paths import write_output
from moodbench.report.formatting import csv_of
from moodbench.report.tables import (
    CALIBRATION_HEADINGS,
    MISLABELLED_EXPLAINED,
    MISLABELLED_HEADINGS,
    calibration_cells,
    calibration_notes,
    mislabelled_cells,
    mislabelled_heading,
    pair_sentence,
)
from moodbench.report.terminal import make_console, print_table
from moodbench.statistics.paired import ROPE
from moodbench.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench compare`."""
    parser.description = "Compare two models on the same test examples, with the interval of their difference."
    parser.add_argument(
        "a", metavar="A", help="a name of the leaderboard, such as 'bert nf4', or NAME@SEED for one of its fits"
    )
    parser.add_argument("b", metavar="B", help="another model, or another seed")
    parser.add_argument("--dataset", metavar="NAME", help="only this dataset; default: all that both have")
    parser.add_argument(
        "--rope",
        type=float,
        default=100 * ROPE,
        metavar="POINTS",
        help="region of practical equivalence: smaller differences in accuracy do not matter; default: %(default)g",
    )
    parser.add_argument(
        "--flips", type=int, default=0, metavar="N", help="show N reviews that only A, and N that only B got right"
    )
    parser.add_argument("--with-text", action="store_true", help="show the texts of your own data too")
    add_options(parser, "--store", "--json")
    parser.set_defaults(command=compare)


def add_mislabelled(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench mislabelled`."""
    parser.description = (
        "List test examples with a doubtful label: nearly all models confidently predict another class."
    )
    parser.add_argument("--dataset", metavar="NAME", help="only this dataset; default: all of the store")
    parser.add_argument("--most", type=int, default=20, metavar="N", help="at most N per dataset; default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all of them to FILE, .csv or .json")
    parser.add_argument("--with-text", action="store_true", help="show the texts of your own data too")
    add_options(parser, "--store", "--json")
    parser.set_defaults(command=list_mislabelled)


def compare(arguments: argparse.Namespace) -> int:
    """Print one verdict per dataset and training size, and return 0."""
    if not 0 < arguments.rope < 100:
        raise UsageError(f"--rope {arguments.rope:g}: allowed is more than 0 and less than 100 points, such as 1")
    if arguments.flips < 0:
        raise UsageError(f"--flips {arguments.flips}: allowed is 0 or more, such as 5")
    a, b = arguments.a, arguments.b
    found = compare_models(Store.open(arguments.store), a, b, arguments.dataset, arguments.rope / 100)
    if arguments.json:
        print_json([each.to_record() | {"flipped": _reviews(each, arguments)} for each in found])
        return 0
    out = make_console()
    for each in found:
        undertrained = each.undertrained(a, b)
        verdict = pair_sentence(
            a, b, each.track, each.difference, each.f1, same_recipe=each.same_recipe, undertrained=undertrained
        )
        print_lines(out, [verdict])
        print_table(CALIBRATION_HEADINGS, calibration_cells(each.calibrations), out, left={"Model"})
        print_lines(out, [_flip(review, each.class_names, a, b) for review in _reviews(each, arguments)])
    notes = calibration_notes([calibration for each in found for calibration in each.calibrations])
    print_lines(out, notes, style="dim")
    return 0


def _flip(review: dict[str, Any], class_names: tuple[str, ...], a: str, b: str) -> str:
    """Return a line about an example that only one of the models got right."""
    right, wrong, predicted = (a, b, review["b"]) if review["right"] == "a" else (b, a, review["a"])
    text = review["text"] if review["text"] is not None else f"{review['example_id']} (text not shown)"
    return (
        f"  only {right} is right ({class_names[review['label']]}; {wrong} predicts {class_names[predicted]}): {text}"
    )


def _reviews(compared: Comparison, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the first `--flips` examples that only A got right, then those that only B got right.

    A private text, or one that the store does not mark as public, is only included on request.
    """
    rows = compared.flipped.sort_index()
    shown = [rows[rows["right"] == side].head(arguments.flips) for side in ("a", "b")]
    return [
        {
            "example_id": example_id,
            "label": int(row["label"]),
            "a": int(row["a"]),
            "b": int(row["b"]),
            "right": row["right"],
            "text": row["text"]
            if isinstance(row["text"], str) and (arguments.with_text or row["private"] is False)
            else None,
        }
        for side in shown
        for example_id, row in side.iterrows()
    ]


def list_mislabelled(arguments: argparse.Namespace) -> int:
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
        print_lines(out, [mislabelled_heading(issues)], style="bold")
        texts = [
            record["text"] or f"{record['example_id']} (text not shown)"
            for record in issues.records(arguments.most, arguments.with_text)
        ]
        if texts:
            lines = [
                [*cells, text] for cells, text in zip(mislabelled_cells(issues, arguments.most), texts, strict=True)
            ]
            print_table([*MISLABELLED_HEADINGS, "Text"], lines, out, left={"Given", "Suggested", "Text"})
    print_lines(out, [MISLABELLED_EXPLAINED], style="dim")
    if arguments.out is not None:
        print_lines(out, [str(arguments.out)])
    return 0


def _write(by_track: list[LabelIssues], path: Path, with_text: bool) -> None:
    records = [record for issues in by_track for record in issues.records(None, with_text)]
    if path.suffix == ".json":
        content = json.dumps(records, indent=1, ensure_ascii=False) + "\n"
    else:
        columns = [by_track[0].rows.columns.drop("private").insert(0, "track")][0]
        content = csv_of(pd.DataFrame(records, columns=columns))
    write_output(path, content.encode(), "--out")
