"""`moodbench models` and `moodbench datasets`: list what a run can name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from moodbench.cli.options import add_config, add_json, print_json
from moodbench.config import Catalogue, load_catalogue
from moodbench.config.schema import DatasetEntry, ModelSize, ModelSource
from moodbench.data.embedded import read_embedded
from moodbench.data.loader import source_of
from moodbench.report.formatting import MISSING, count
from moodbench.report.terminal import make_console, print_table


@dataclass(frozen=True)
class Listing:
    """A command that lists one part of the catalogue."""

    description: str
    columns: tuple[str, ...]
    rows: Any
    show: Callable[[list[dict[str, Any]], Console], None] | None = None
    """Prints the rows; None: as a plain table of `columns`."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the description and options of the command."""
        parser.description = self.description
        add_config(parser)
        add_json(parser)
        parser.set_defaults(command=self.execute)

    def execute(self, arguments: argparse.Namespace) -> int:
        """Print the list and return 0."""
        rows = self.rows(load_catalogue(arguments.config))
        if arguments.json:
            print_json(rows)
        elif self.show:
            self.show(rows, make_console())
        else:
            table = [[str(row[c]) if row[c] is not None else "—" for c in self.columns] for row in rows]
            print_table(self.columns, table, make_console(), left=set(self.columns))
        return 0


def model_rows(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Return one row per model; a model without weights has no size."""
    rows = []
    for name, entry in catalogue.models.items():
        size = entry.size.model_dump() if entry.size else dict.fromkeys(ModelSize.model_fields)
        family = catalogue.families[entry.family] if entry.family else None
        rows.append(
            {
                "name": name,
                "method": entry.method,
                "group": entry.group,
                "family": entry.family,
                "kind": family and family.kind,
                **size,
                "lora_targets": list(family.attention) if family else None,
                "batch_size": entry.batch_size and entry.batch_size.model_dump(),
                "weights": _weights(entry.source),
                "revision": entry.source and entry.source.revision,
                "gated": entry.source.gated if entry.source else False,
                "licence": entry.licence,
                "description": entry.description + (f" ({entry.caveat})" if entry.caveat else ""),
            }
        )
    return rows


def _weights(source: ModelSource | None) -> str | None:
    if source is None:
        return None
    return f"hub {source.hub}" if source.hub else f"package {source.package}" if source.package else str(source.path)


MODEL_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "Model": lambda r: str(r["name"]),
    "Params": lambda r: count(r["num_params"]),
    "Layers": lambda r: _or_dash(r["num_hidden_layers"]),
    "Width": lambda r: _or_dash(r["hidden_size"]),
    "Context": lambda r: f"{r['context_length']:,}" if r["context_length"] else MISSING,
    "Family": lambda r: _or_dash(r["family"]),
    "Licence": lambda r: str(r["licence"]),
    "Weights": lambda r: _or_dash(r["weights"]) + (" (gated)" if r["gated"] else ""),
    "Description": lambda r: str(r["description"]),
}


def _or_dash(value: object) -> str:
    return MISSING if value is None else str(value)


def print_models(rows: list[dict[str, Any]], out: Console) -> None:
    """Print the models by group, within a group in the order of the catalogue."""
    for group, title in GROUPS.items():
        members = [row for row in rows if row["group"] == group]
        if members:
            out.print()
            out.print(Text(title, style="bold"))
            table = [[cell(row) for cell in MODEL_COLUMNS.values()] for row in members]
            left = {"Model", "Family", "Licence", "Weights", "Description"}
            print_table(tuple(MODEL_COLUMNS), table, out, left=left)
    out.print()
    out.print(
        Text(
            "Params: as a classifier with 2 labels, without a language-model head. Weights from the hub are loaded "
            "when first needed; gated ones after you accepted their terms there and logged in (`hf auth login`).",
            style="dim",
        ),
        soft_wrap=True,
    )


GROUPS: dict[str | None, str] = {
    None: "classical baselines, and models without a group",
    "ultra-tiny": "ultra-tiny: below 50 million parameters",
    "tiny": "tiny: encoders from 50 million, decoders up to 250 million",
    "small-llm": "small-llm: decoders of 250 million or more",
}


def dataset_rows(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Return one row per dataset, with the number of source rows; None for what only the source itself states."""
    return [
        {
            "name": name,
            "labels": ", ".join(entry.class_names) or None,
            "neutral_band": entry.neutral_band,
            "source": source_of(entry),
            "revision": entry.hub.revision if entry.hub else None,
            "num_texts": _num_texts(entry),
            "num_source_rows": dict(entry.num_source_rows),
            "licence": entry.licence,
            "terms": entry.terms,
            "citation": entry.citation,
            "description": entry.description,
        }
        for name, entry in catalogue.datasets.items()
    ]


def _num_texts(entry: DatasetEntry) -> int | None:
    if entry.embedded:
        return int(read_embedded(entry.embedded).num_rows)
    return sum(entry.num_source_rows.values()) or None


MODELS = Listing("List the models.", (), model_rows, print_models)
DATASETS = Listing(
    "List the datasets.",
    ("name", "labels", "num_texts", "source", "licence", "terms", "description"),
    dataset_rows,
)
