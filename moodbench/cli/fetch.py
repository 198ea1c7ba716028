"""`moodbench fetch`: fill the caches of this machine with models and data sets, for machines without a network."""

from __future__ import annotations

import argparse
from typing import Any

from moodbench.cli.options import add_config
from moodbench.config import load_catalogue
from moodbench.config.catalogue import own_source
from moodbench.errors import MoodBenchError, UnknownNameError
from moodbench.visualization.terminal import console


def add_to(commands: Any) -> None:
    """Nothing; adds the command."""
    parser = commands.add_parser("fetch", help="fetch models and data sets beforehand", description=__doc__)
    parser.add_argument(
        "names", nargs="+", metavar="MODEL|DATASET", help="names of the catalogue, or hub ids of models"
    )
    add_config(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """0 when everything is here now, 2 when something cannot be had; the rest is fetched in any case."""
    from moodbench.data.fetching import fetch_dataset
    from moodbench.models.locate import locate

    catalogue, out = load_catalogue(arguments.config), console()
    for name in arguments.names:
        if name not in catalogue.models and name not in catalogue.datasets and own_source(name) is None:
            raise UnknownNameError("model or data set", name, [*catalogue.models, *catalogue.datasets])
    refused = 0
    for name in arguments.names:
        try:
            if name in catalogue.datasets:
                out.print(fetch_dataset(name, catalogue.dataset(name)), markup=False, soft_wrap=True)
            elif (source := catalogue.model(name).source) is None:
                out.print(f"{name}: needs no files", markup=False)
            else:
                found = locate(name, source)
                out.print(f"{name}: revision {found.revision} is in {found.folder}", markup=False, soft_wrap=True)
        except MoodBenchError as error:
            refused += 1
            out.print(f"not fetched: {error}", markup=False, style="red", soft_wrap=True)
    return 2 if refused else 0
