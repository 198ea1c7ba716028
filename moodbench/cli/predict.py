"""`moodbench predict` and `moodbench export-model`: use a model of the store for new texts, or outside MoodBench."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from itertools import chain
from pathlib import Path
from typing import get_args

from moodbench.cli.options import add_options, print_lines
from moodbench.config import load_catalogue
from moodbench.errors import UsageError
from moodbench.report.terminal import make_console
from moodbench.serving.classifier import BATCH_SIZE, choose_fit, open_classifier
from moodbench.serving.export import export_model
from moodbench.serving.texts import STANDARD, InputFormat, open_output, read_texts, write_predictions
from moodbench.store import Store

MODEL_HELP = "a fit's id, or a model's name: its fit with the most training texts, then the lowest seed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench predict`."""
    parser.description = (
        "Label texts in order and as they arrive, so that files of any size and endless pipes work. The output repeats "
        "the texts only with --with-text."
    )
    parser.add_argument("--model", required=True, metavar="FIT_ID|NAME", help=MODEL_HELP)
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE|-",
        help="one text per line (.txt, or - for standard input; see --input-format), or .csv, .tsv, .xlsx, "
        ".jsonl, .parquet; UTF-8",
    )
    parser.add_argument(
        "--input-format",
        choices=get_args(InputFormat),
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
    add_options(parser, "--inference-dtype", "--store")
    parser.set_defaults(command=predict)


def add_export_model(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of `moodbench export-model`."""
    parser.description = (
        "Write merged weights, tokenizer and a model card to a new folder, which "
        'transformers.pipeline("text-classification", DIR) loads without MoodBench. For a language model that answers '
        "with label words, the card has the code that reads its answer."
    )
    parser.add_argument("model", metavar="FIT_ID|NAME", help=MODEL_HELP)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that is absent or empty")
    add_options(parser, "--inference-dtype", "--config", "--store")
    parser.set_defaults(command=export)


def predict(arguments: argparse.Namespace) -> int:
    """Write one row per row of the input, and return 0."""
    if arguments.batch_size < 1:
        raise UsageError(f"--batch-size {arguments.batch_size}: allowed is 1 or more")
    store = Store.open(arguments.store)
    fit = choose_fit(store, arguments.model)
    chunks = read_texts(arguments.input, arguments.text_column, arguments.input_format)
    extra = {"probabilities": arguments.probabilities == "all", "text": arguments.with_text}
    named_csv = Path(arguments.output).suffix.lower() == ".csv"
    with open_output(arguments.output, arguments.input) as out:
        first = next(chunks)  # raises for invalid input before the model is loaded
        others = f"; {fit.num_alternatives} other fits of it, choose by id" if fit.num_alternatives else ""
        print(f"{fit}{others}{'; ' if fit.cleaning else ''}{fit.cleaning_note}", file=sys.stderr)
        classifier = open_classifier(store, fit, inference_dtype=arguments.inference_dtype or "auto")
        written = write_predictions(
            chain([first], chunks),
            partial(classifier.predict, batch_size=arguments.batch_size),
            out,
            labels=classifier.labels,
            format=arguments.format or ("csv" if named_csv else "jsonl"),
            extra=[name for name, is_wanted in extra.items() if is_wanted],
        )
    if written.num_without_text:
        print(
            f"{written.num_without_text:,} of {written.num_rows:,} rows have no text (empty, missing or only a number),"
            " so their label is empty",
            file=sys.stderr,
        )
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Export the model, print where it is, and return 0."""
    catalogue = load_catalogue(arguments.config)
    store, dtype = Store.open(arguments.store), arguments.inference_dtype
    fit = export_model(store, arguments.model, arguments.folder, catalogue, dtype or "auto")
    print_lines(make_console(), [f"{fit} is in {arguments.folder}; its figures are in README.md there."])
    return 0
