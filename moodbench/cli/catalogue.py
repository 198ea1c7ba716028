"""`moodbench catalogue`: list, download and pin models and datasets, and write the guide to them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from moodbench.cli.commands import COMMANDS
from moodbench.cli.options import (
    DATA,
    add_action,
    add_actions,
    add_options,
    catalogue_of,
    print_json,
    print_lines,
    values_of,
)
from moodbench.config import Catalogue, load_catalogue
from moodbench.config.catalogue import merge, own_source
from moodbench.config.schema import DatasetEntry, ModelSize, ModelSource
from moodbench.config.yaml_files import load_yaml
from moodbench.data.embedded import read_embedded
from moodbench.data.loader import source_of
from moodbench.errors import MoodBenchError, PrerequisiteError, UnknownNameError, UsageError
from moodbench.paths import write_files, write_output
from moodbench.report.formatting import MISSING, count
from moodbench.report.guide import model_configuration, quick_reference
from moodbench.report.terminal import make_console, print_table
from moodbench.spec import BASELINE_OF_SCORE
from moodbench.spec.benchmark_spec import spec_from_values

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
MODEL_GROUPS: dict[str | None, str] = {
    None: "classical baselines, and models without a group",
    "ultra-tiny": "ultra-tiny: below 50 million parameters",
    "tiny": "tiny: encoders from 50 million, decoders up to 250 million",
    "small-llm": "small-llm: decoders of 250 million or more",
}
DATASET_COLUMNS = ("name", "labels", "num_texts", "source", "licence", "terms", "description")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and actions of `moodbench catalogue`."""
    actions = add_actions(parser, "List, download and pin what a run can name, and write the guide to it.")
    add_models(add_action(actions, "models", list_models, "list the models"))
    add_datasets(add_action(actions, "datasets", list_datasets, "list the datasets"))
    _add_fetch(actions)
    _add_pin(actions)
    _add_guide(actions)


def _add_fetch(actions: Any) -> None:
    added = add_action(
        actions, "fetch", fetch, "download models and datasets to the caches of this machine, to run without a network"
    )
    added.add_argument("names", nargs="*", metavar="MODEL|DATASET", help="names of the catalogue, or hub ids of models")
    add_options(added, *DATA, "--trust-remote-code", "--config")


def _add_pin(actions: Any) -> None:
    added = add_action(actions, "pin", pin, "record today's revision of each hub model in a file for --config")
    added.add_argument("models", nargs="*", metavar="MODEL", help="models to pin; default: all hub models")
    added.add_argument(
        "--output",
        type=Path,
        default=Path("pinned.yaml"),
        metavar="FILE",
        help="YAML file to write or to add to, for use with --config; default: %(default)s",
    )
    added.add_argument(
        "--converted",
        action="store_true",
        help="for models whose main branch holds pickles only, pin the safetensors that the hub's conversion bot "
        "proposes: content that the owner has not accepted",
    )
    add_options(added, "--config")


def _add_guide(actions: Any) -> None:
    added = add_action(
        actions,
        "guide",
        write_guide,
        "write the model guide and the quick reference",
        "Write MODEL_CONFIGURATION.md (each model, and what it needs on CUDA, Apple and CPU) and QUICK_REFERENCE.md. "
        "With --config they include your own models and datasets.",
    )
    added.add_argument("--output", type=Path, default=Path("docs"), metavar="DIR", help="default: %(default)s/")
    add_options(added, "--config")


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the options of `moodbench models`."""
    parser.set_defaults(command=list_models)
    add_options(parser, "--config", "--json")


def add_datasets(parser: argparse.ArgumentParser) -> None:
    """Add the options of `moodbench datasets`."""
    parser.set_defaults(command=list_datasets)
    add_options(parser, "--config", "--json")


def list_models(arguments: argparse.Namespace) -> int:
    """Print the models and return 0."""
    rows = model_rows(load_catalogue(arguments.config))
    if arguments.json:
        print_json(rows)
    else:
        _print_models(rows, make_console())
    return 0


def list_datasets(arguments: argparse.Namespace) -> int:
    """Print the datasets and return 0."""
    rows = dataset_rows(load_catalogue(arguments.config))
    if arguments.json:
        print_json(rows)
    else:
        table = [[_or_dash(row[column]) for column in DATASET_COLUMNS] for row in rows]
        print_table(DATASET_COLUMNS, table, make_console(), left=set(DATASET_COLUMNS))
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
                "english_only": entry.english_only,
                "description": entry.description + (f" ({entry.caveat})" if entry.caveat else ""),
            }
        )
    return rows


def _weights(source: ModelSource | None) -> str | None:
    if source is None:
        return None
    return f"hub {source.hub}" if source.hub else f"package {source.package}" if source.package else str(source.path)


def _or_dash(value: object) -> str:
    return MISSING if value is None else str(value)


def _print_models(rows: list[dict[str, Any]], out: Console) -> None:
    left = {"Model", "Family", "Licence", "Weights", "Description"}
    for group, title in MODEL_GROUPS.items():
        members = [row for row in rows if row["group"] == group]
        if members:
            out.print()
            out.print(Text(title, style="bold"))
            table = [[cell(row) for cell in MODEL_COLUMNS.values()] for row in members]
            print_table(tuple(MODEL_COLUMNS), table, out, left=left)
    out.print()
    note = (
        "Params: as a classifier with 2 labels, without a language-model head. Weights from the hub are downloaded "
        "when first needed; gated ones after you accepted their terms there and logged in (`hf auth login`)."
    )
    print_lines(out, [note], style="dim")


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


def fetch(arguments: argparse.Namespace) -> int:
    """Fetch what is named; return 0 if everything is cached now, 2 if something is unavailable.

    The rest is fetched in any case.
    """
    catalogue, out = catalogue_of(arguments), make_console()
    datasets = dict(catalogue.datasets)
    own = spec_from_values({"models": [BASELINE_OF_SCORE], "datasets": ["none"], **values_of(arguments)}, "fetch").own
    names = [*arguments.names, *([own[0]] if own else [])]
    if own:
        datasets[own[0]] = own[1]
    if not names:
        raise UsageError("catalogue fetch: nothing to fetch; name models or datasets, or give --data hub:OWNER/NAME")
    for name in names:
        if name not in catalogue.models and name not in datasets and own_source(name) is None:
            raise UnknownNameError("model or dataset", name, [*catalogue.models, *catalogue.datasets])
    refused = 0
    for name in names:
        try:
            print_lines(out, [_fetched(name, catalogue, datasets)])
        except MoodBenchError as error:
            refused += 1
            print_lines(out, [f"not fetched: {error}"], style="red")
    return 2 if refused else 0


def _fetched(name: str, catalogue: Catalogue, datasets: dict[str, DatasetEntry]) -> str:
    """Download the model or dataset `name`, and return a line about what is on this machine now."""
    from moodbench.data.loader import fetch_dataset
    from moodbench.models.locate import locate

    if name in datasets:
        return fetch_dataset(name, datasets[name])
    source = catalogue.model(name).source
    if source is None:
        return f"{name}: needs no files"
    found = locate(name, source)
    return f"{name}: revision {found.revision} is in {found.folder}"


def pin(arguments: argparse.Namespace) -> int:
    """Pin the models; return 0 if all are pinned, 1 if the hub gave no answer for some.

    What was found is written in any case.
    """
    from moodbench.models.hub import newest_revision

    catalogue, out, path = load_catalogue(arguments.config), make_console(), arguments.output
    names = arguments.models or [n for n, e in catalogue.models.items() if e.source and e.source.hub]
    sources = {name: _hub_source(catalogue, name) for name in names}
    try:
        before = load_yaml(path.read_text("utf-8"), str(path)) if path.exists() else {}
    except OSError as error:
        raise PrerequisiteError(f"--output {path}: cannot be read ({error.strerror}); give another file") from error
    found: dict[str, str] = {}
    for name, source in sources.items():
        try:
            found[name], description = newest_revision(name, source, converted=arguments.converted)
        except MoodBenchError as error:
            print_lines(out, [f"not pinned: {error}"], style="red")
        else:
            print_lines(out, [f"{name}: {found[name]}{description and f', which is {description}'}"])
    if found:
        pinned = {"models": {name: _pinned_entry(catalogue, name, commit) for name, commit in found.items()}}
        text = yaml.safe_dump(merge(before, pinned), sort_keys=False, allow_unicode=True)
        write_output(path, text.encode())
        print_lines(out, [f"{len(found)} revisions are in {path}; use them with --config {path}"])
    return 1 if len(found) < len(sources) else 0


def _hub_source(catalogue: Catalogue, name: str) -> ModelSource:
    source = catalogue.model(name).source
    if source is None or not source.hub:
        raise UsageError(f"catalogue pin: model {name} is not from the hub; see `moodbench catalogue models`")
    return source


def _pinned_entry(catalogue: Catalogue, name: str, commit: str) -> dict[str, Any]:
    """Return the catalogue entry of a pinned model; the whole entry if the catalogue does not have the hub id."""
    entry = catalogue.model(name)
    if name in catalogue.models:
        return {"source": {"revision": commit}}
    own = {"method": entry.method, "licence": entry.licence, "description": entry.description}
    return {"source": {"hub": name, "revision": commit}, **own}


def write_guide(arguments: argparse.Namespace) -> int:
    """Write the files, print their paths, and return 0."""
    catalogue = load_catalogue(arguments.config)
    commands = [(name, each.help) for name, each in COMMANDS.items()]
    contents = {
        "MODEL_CONFIGURATION.md": model_configuration(catalogue).encode(),
        "QUICK_REFERENCE.md": quick_reference(catalogue, commands).encode(),
    }
    for path in write_files(arguments.output, contents):
        print(path)
    return 0
