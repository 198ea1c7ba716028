"""The options of `moodbench run` for a person's own file, and the catalogue entry they make."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moodbench.config import Catalogue
from moodbench.config.catalogue import explain
from moodbench.config.schema import DatasetEntry
from moodbench.data.labelling import DROP, label_text
from moodbench.errors import SpecError, UsageError

_PARTS = ("text_column", "label_column", "label_map", "labels", "split_column", "group_column", "data_name")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def add_own_data(parser: argparse.ArgumentParser) -> None:
    """Nothing; adds --data and what goes with it."""
    group = parser.add_argument_group("your own data")
    group.add_argument("--data", metavar="FILE", help="CSV, TSV, JSONL or Parquet with texts and labels")
    group.add_argument("--text-column", metavar="NAME", help="column with the texts")
    group.add_argument("--label-column", metavar="NAME", help="column with the labels: stars, numbers or words")
    group.add_argument(
        "--label-map", metavar="LABEL=CLASS,...", help=f"classes of labels, such as 1=negative,3={DROP},5=positive"
    )
    group.add_argument("--labels", metavar="CLASS,...", help="2, 3 or 5 class names, most negative first")
    group.add_argument("--split-column", metavar="NAME", help="column that says train, validation or test")
    group.add_argument("--group-column", metavar="NAME", help="rows of one group, such as a product, stay in one split")
    group.add_argument("--data-name", metavar="NAME", help="what the data set is called; default: the file's name")


def own_entry(arguments: argparse.Namespace) -> tuple[str, DatasetEntry] | None:
    """The name and catalogue entry that the options describe, None without --data; UsageError for a wrong option."""
    given = {part: getattr(arguments, part) for part in _PARTS if getattr(arguments, part) is not None}
    if arguments.data is None:
        if given:
            raise UsageError(f"run: {', '.join(map(_flag, given))} without --data; add --data FILE")
        return None
    missing = [part for part in ("text_column", "label_column") if part not in given]
    if missing:
        raise UsageError(f"run: --data {arguments.data} needs {' and '.join(map(_flag, missing))} NAME as well")
    name = given.pop("data_name", None)
    source: dict[str, Any] = {**given, "path": arguments.data}
    if "label_map" in given:
        source["label_map"] = parse_label_map(given["label_map"])
    if "labels" in given:
        source["labels"] = [label.strip() for label in given["labels"].split(",")]
    try:
        entry = DatasetEntry.model_validate({"file": source})
    except ValidationError as error:
        raise SpecError(explain(error, f"--data {arguments.data}")) from error
    return name if name is not None else _name_of(Path(arguments.data)), entry


def with_own_data(catalogue: Catalogue, own: tuple[str, DatasetEntry] | None) -> Catalogue:
    """The catalogue with the entry of `own` beside its others; UsageError when its name is taken or cannot be one."""
    if own is None:
        return catalogue
    name, entry = own
    if not re.fullmatch(_NAME, name):
        raise UsageError(
            f"--data-name {name!r}: allowed are letters, digits, '.', '_' and '-', beginning with one of the first two"
        )
    if name in catalogue.datasets:
        raise UsageError(f"--data-name {name!r}: the catalogue has a data set of this name; give another --data-name")
    return replace(catalogue, datasets={**catalogue.datasets, name: entry})


def parse_label_map(text: str) -> dict[str, str]:
    """Label -> class of "1=negative,5=positive"; SpecError for what is not of this form."""
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


def _name_of(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "my-data"


def _flag(part: str) -> str:
    return "--" + part.replace("_", "-")
