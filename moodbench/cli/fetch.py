"""`moodbench fetch`: download models and datasets into the caches of this machine, to run without a network."""

from __future__ import annotations

import argparse

from moodbench.cli.options import add_config, add_trust, catalogue_of
from moodbench.cli.own_data import add_own_data, own_values
from moodbench.config.catalogue import own_source
from moodbench.errors import MoodBenchError, UnknownNameError, UsageError
from moodbench.report.terminal import make_console
from moodbench.spec import BASELINE_OF_SCORE
from moodbench.spec.benchmark_spec import spec_from_values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = __doc__
    parser.add_argument(
        "names", nargs="*", metavar="MODEL|DATASET", help="names of the catalogue, or hub ids of models"
    )
    add_own_data(parser)
    add_trust(parser)
    add_config(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Fetch what is named; return 0 if everything is cached now, 2 if something is unavailable.

    The rest is fetched in any case.
    """
    from moodbench.data.fetching import fetch_dataset
    from moodbench.models.locate import locate

    catalogue, out = catalogue_of(arguments), make_console()
    datasets = dict(catalogue.datasets)
    own = spec_from_values({"models": [BASELINE_OF_SCORE], "datasets": ["none"], **own_values(arguments)}, "fetch").own
    names = [*arguments.names, *([own[0]] if own else [])]
    if own:
        datasets[own[0]] = own[1]
    if not names:
        raise UsageError("fetch: nothing to fetch; name models or datasets, or give --data hub:OWNER/NAME")
    for name in names:
        if name not in catalogue.models and name not in datasets and own_source(name) is None:
            raise UnknownNameError("model or dataset", name, [*catalogue.models, *catalogue.datasets])
    refused = 0
    for name in names:
        try:
            if name in datasets:
                out.print(fetch_dataset(name, datasets[name]), markup=False, soft_wrap=True)
            elif (source := catalogue.model(name).source) is None:
                out.print(f"{name}: needs no files", markup=False)
            else:
                found = locate(name, source)
                out.print(f"{name}: revision {found.revision} is in {found.folder}", markup=False, soft_wrap=True)
        except MoodBenchError as error:
            refused += 1
            out.print(f"not fetched: {error}", markup=False, style="red", soft_wrap=True)
    return 2 if refused else 0
