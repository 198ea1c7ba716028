"""`moodbench models` and `moodbench datasets`: what can be named in a run."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from moodbench.cli.options import add_config, add_json, print_json
from moodbench.config import Catalogue, load_catalogue
from moodbench.data.embedded import read_embedded
from moodbench.visualization.terminal import console, print_table


@dataclass(frozen=True)
class Listing:
    """A command that lists one part of the catalogue."""

    name: str
    help: str
    columns: tuple[str, ...]
    rows: Any

    def add_to(self, commands: Any) -> None:
        """Nothing; adds the command."""
        parser = commands.add_parser(self.name, help=self.help, description=self.help)
        add_config(parser)
        add_json(parser)
        parser.set_defaults(command=self.execute)

    def execute(self, arguments: argparse.Namespace) -> int:
        """0; prints the list."""
        rows = self.rows(load_catalogue(arguments.config))
        if arguments.json:
            print_json(rows)
        else:
            table = [[str(row[c]) if row[c] is not None else "—" for c in self.columns] for row in rows]
            print_table(self.columns, table, console(), left=set(self.columns))
        return 0


def model_rows(catalogue: Catalogue) -> list[dict[str, Any]]:
    """One row per model."""
    return [
        {
            "name": name,
            "method": entry.method,
            "family": entry.family,
            "licence": entry.licence,
            "description": entry.description + (f" ({entry.caveat})" if entry.caveat else ""),
        }
        for name, entry in catalogue.models.items()
    ]


def dataset_rows(catalogue: Catalogue) -> list[dict[str, Any]]:
    """One row per data set, with the number of source texts; what only a file's content says is None."""
    return [
        {
            "name": name,
            "labels": ", ".join(entry.labels or (entry.file.labels if entry.file else ())) or None,
            "neutral_band": entry.neutral_band,
            "num_texts": read_embedded(entry.embedded).num_rows if entry.embedded else None,
            "licence": entry.licence,
            "citation": entry.citation,
            "description": entry.description,
        }
        for name, entry in catalogue.datasets.items()
    ]


MODELS = Listing("models", "list the models", ("name", "method", "licence", "description"), model_rows)
DATASETS = Listing(
    "datasets",
    "list the data sets",
    ("name", "labels", "num_texts", "licence", "citation", "description"),
    dataset_rows,
)
