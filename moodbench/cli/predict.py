"""`moodbench predict`: label new texts with a model of the store."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import get_args

from moodbench.cli.options import add_store
from moodbench.errors import UsageError
from moodbench.serving.classifier import BATCH_SIZE, Prediction, open_classifier
from moodbench.serving.fits import choose_fit
from moodbench.serving.piped import Piped, read_piped
from moodbench.serving.stream import open_output, write_predictions
from moodbench.serving.texts import STANDARD, read_texts
from moodbench.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "Label texts, in order and piece by piece, so that a file of any size and a pipe without end work. "
        "The texts themselves are not repeated in the output."
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="FIT_ID|NAME",
        help="a fit's id, or a model's name: its fit with the most training texts, then the lowest seed",
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE|-",
        help="one text per line (.txt, or - for standard input; see --input-format), or .csv, .tsv, .jsonl, .parquet; "
        "UTF-8",
    )
    parser.add_argument(
        "--input-format",
        choices=("lines", *get_args(Piped)),
        default="lines",
        help="what standard input holds: one text per line (default), or rows whose texts may have line breaks",
    )
    parser.add_argument("--text-column", metavar="C", help="column with the texts; default: text, or the only one")
    parser.add_argument(
        "--output", default=STANDARD, metavar="FILE|-", help="default: standard output; a file appears when complete"
    )
    parser.add_argument("--format", choices=("jsonl", "csv"), help="default: csv for an output named .csv, else jsonl")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--probabilities", choices=("label", "all"), default="label", help="of the label only (default), or of all"
    )
    parser.add_argument("--with-text", action="store_true", help="repeat each text beside its label")
    add_store(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Write one row per text, and return 0."""
    if arguments.batch_size < 1:
        raise UsageError(f"--batch-size {arguments.batch_size}: allowed is 1 or more")
    store = Store.open(arguments.store)
    fit = choose_fit(store, arguments.model)
    pieces = _pieces(arguments)
    named_csv = Path(arguments.output).suffix.lower() == ".csv"
    with open_output(arguments.output, arguments.input) as out:
        first = next(pieces)  # raises for invalid input before the model is loaded
        others = f"; {fit.num_alternatives} other fits of it, choose by id" if fit.num_alternatives else ""
        print(f"{fit}{others}", file=sys.stderr)
        classifier = open_classifier(store, fit)

        def predict(texts: Sequence[str]) -> list[Prediction]:
            return classifier.predict(texts, batch_size=arguments.batch_size)

        write_predictions(
            chain([first], pieces),
            predict,
            out,
            labels=classifier.labels,
            format=arguments.format or ("csv" if named_csv else "jsonl"),
            all_probabilities=arguments.probabilities == "all",
            with_text=arguments.with_text,
        )
    return 0


def _pieces(arguments: argparse.Namespace) -> Iterator[list[str]]:
    kind, source = arguments.input_format, arguments.input
    if kind == "lines":
        return read_texts(source, arguments.text_column)
    if source != STANDARD:
        raise UsageError(
            f"--input-format {kind}: says what standard input holds, {source} says it by its ending; leave it out"
        )
    return read_piped(kind, arguments.text_column)
