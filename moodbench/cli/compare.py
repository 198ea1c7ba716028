"""`moodbench compare A B`: compare two models on the same test examples, with the interval of their difference."""

from __future__ import annotations

import argparse
from typing import Any

from moodbench.analysis.pairwise import Comparison, compare_models
from moodbench.cli.options import add_json, add_store, print_json
from moodbench.errors import UsageError
from moodbench.report.tables import CALIBRATION_HEADINGS, calibration_cells, calibration_notes, pair_sentence
from moodbench.report.terminal import make_console, print_table
from moodbench.statistics.paired import ROPE
from moodbench.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = __doc__
    parser.add_argument(
        "a", metavar="A", help="a model or a name on the board, such as 'bert nf4', or NAME@SEED for one of its fits"
    )
    parser.add_argument("b", metavar="B", help="another model, or another seed")
    parser.add_argument("--dataset", metavar="NAME", help="only this dataset; default: every one that both have")
    parser.add_argument(
        "--rope",
        type=float,
        default=100 * ROPE,
        metavar="POINTS",
        help="differences within so many points of accuracy do not matter; default: %(default)g",
    )
    parser.add_argument(
        "--flips", type=int, default=0, metavar="N", help="show N reviews that only A, only B got right"
    )
    parser.add_argument("--with-text", action="store_true", help="show the texts of your own data too")
    add_store(parser)
    add_json(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Print one verdict per dataset and training size, and return 0."""
    if not 0 < arguments.rope < 100:
        raise UsageError(f"--rope {arguments.rope:g}: allowed is more than 0 and less than 100 points, such as 1")
    if arguments.flips < 0:
        raise UsageError(f"--flips {arguments.flips}: allowed is 0 or more, such as 5")
    a, b = arguments.a, arguments.b
    found = compare_models(Store.open(arguments.store), a, b, arguments.dataset, arguments.rope / 100)
    if arguments.json:
        print_json([c.to_record() | {"flipped": _reviews(c, arguments)} for c in found])
        return 0
    out = make_console()
    for compared in found:
        said = pair_sentence(
            a,
            b,
            compared.track,
            compared.difference,
            compared.f1,
            same_recipe=compared.same_recipe,
            undertrained=compared.undertrained(a, b),
        )
        out.print(said, markup=False, soft_wrap=True)
        print_table(CALIBRATION_HEADINGS, calibration_cells(compared.calibrations), out, left={"Model"})
        for review in _reviews(compared, arguments):
            who, other = (a, b) if review["right"] == "a" else (b, a)
            wrong = review["b"] if review["right"] == "a" else review["a"]
            label, said = compared.class_names[review["label"]], compared.class_names[wrong]
            text = review["text"] if review["text"] is not None else f"{review['example_id']} (text not shown)"
            out.print(f"  only {who} is right ({label}; {other} says {said}): {text}", markup=False, soft_wrap=True)
    for note in calibration_notes([each for compared in found for each in compared.calibrations]):
        out.print(note, markup=False, soft_wrap=True, style="dim")
    return 0


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
