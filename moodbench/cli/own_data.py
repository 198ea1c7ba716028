"""Options for a user's own file or any dataset of the hub, and the spec fields that they set."""

from __future__ import annotations

import argparse
from typing import Any

from moodbench.data.labelling import DROP, label_text
from moodbench.errors import SpecError

_FIELDS = ("data", "text_column", "label_column", "split_column", "group_column", "data_name", "data_config")


def add_own_data(parser: argparse.ArgumentParser) -> None:
    """Add `--data` and the options that go with it."""
    group = parser.add_argument_group("your own data")
    group.add_argument(
        "--data",
        metavar="FILE|hub:OWNER/NAME",
        help="CSV, TSV, JSONL or Parquet with texts and labels, or a dataset of the hub (hub:OWNER/NAME@REVISION)",
    )
    group.add_argument(
        "--text-column", metavar="NAME", help="column with the texts; of a hub dataset also several: title,content"
    )
    group.add_argument("--label-column", metavar="NAME", help="column with the labels: stars, numbers or words")
    group.add_argument(
        "--label-map", metavar="LABEL=CLASS,...", help=f"classes of labels, such as 1=negative,3={DROP},5=positive"
    )
    group.add_argument("--labels", metavar="CLASS,...", help="2, 3 or 5 class names, most negative first")
    group.add_argument("--split-column", metavar="NAME", help="column of a file that says train, validation or test")
    group.add_argument("--group-column", metavar="NAME", help="rows of one group, such as a product, stay in one split")
    group.add_argument("--data-name", metavar="NAME", help="what the dataset is called; default: the file's name")
    group.add_argument("--data-config", metavar="NAME", help="configuration (subset) of a hub dataset")
    group.add_argument(
        "--splits",
        metavar="SPLIT=NAME,...",
        help="which splits of a hub dataset are which, such as train=train,test=validation",
    )


def own_values(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of BenchmarkSpec that the options give."""
    values = {name: getattr(arguments, name) for name in _FIELDS if getattr(arguments, name) is not None}
    if arguments.label_map is not None:
        values["label_map"] = parse_label_map(arguments.label_map)
    if arguments.splits is not None:
        values["splits"] = parse_splits(arguments.splits)
    if arguments.labels is not None:
        values["labels"] = [label.strip() for label in arguments.labels.split(",")]
    return values


def parse_label_map(text: str) -> dict[str, str]:
    """Return label -> class for text such as "1=negative,5=positive".

    Raises: SpecError for text of another form.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        label, sign, target = part.rpartition("=")
        key, target = label_text(label), target.strip()
        if not sign or key is None or not target:
            raise SpecError(
                f"--label-map: {part.strip()!r} is not LABEL=CLASS; expected such as 1=negative,3={DROP},5=positive"
            )
        if key in found:
            raise SpecError(f"--label-map: label {key!r} is given twice ({found[key]!r} and {target!r}); give it once")
        found[key] = target
    return found


def parse_splits(text: str) -> dict[str, str]:
    """Return our split -> split of the source for text such as "train=train,test=validation".

    Raises: SpecError for text of another form.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        ours, sign, theirs = (word.strip() for word in part.partition("="))
        if not sign or not ours or not theirs:
            raise SpecError(
                f"--splits: {part.strip()!r} is not SPLIT=NAME; expected such as train=train,test=validation"
            )
        if ours in found:
            raise SpecError(f"--splits: {ours!r} is given twice ({found[ours]!r} and {theirs!r}); give it once")
        found[ours] = theirs
    return found
