"""`moodbench catalogue pin`: record the revision of each hub model that the hub offers today."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import yaml

from moodbench.cli.options import add_config
from moodbench.config import Catalogue, load_catalogue
from moodbench.config.catalogue import merge
from moodbench.config.yaml_files import load_yaml
from moodbench.errors import MoodBenchError, PrerequisiteError, UsageError
from moodbench.report.terminal import make_console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command and its only action."""
    parser.description = __doc__
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    pin = actions.add_parser("pin", help="record revisions in a file for --config", description=__doc__)
    pin.add_argument("models", nargs="*", metavar="MODEL", help="models to pin; all hub models when none is given")
    pin.add_argument(
        "--output",
        type=Path,
        default=Path("pinned.yaml"),
        metavar="FILE",
        help="YAML file to write or to add to, for use with --config; default: %(default)s",
    )
    pin.add_argument(
        "--converted",
        action="store_true",
        help="where a main branch holds pickles only, pin the safetensors that the hub's conversion bot proposes: "
        "content that the owner has not taken",
    )
    add_config(pin)
    pin.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Pin the models; return 0 if all are pinned, 1 if the hub gave no answer for some.

    What was found is written in any case.
    """
    from moodbench.models.hub import newest_revision

    catalogue, out = load_catalogue(arguments.config), make_console()
    names = arguments.models or [n for n, e in catalogue.models.items() if e.source and e.source.hub]
    for name in names:
        _hub_source(catalogue, name)
    before = _existing(arguments.output)
    found: dict[str, str] = {}
    refused = 0
    for name in names:
        try:
            found[name], said = newest_revision(name, _hub_source(catalogue, name), converted=arguments.converted)
        except MoodBenchError as error:
            refused += 1
            out.print(f"not pinned: {error}", markup=False, style="red", soft_wrap=True)
        else:
            out.print(f"{name}: {found[name]}{said and f', which is {said}'}", markup=False, soft_wrap=True)
    if found:
        pinned = {"models": {name: _entry(catalogue, name, commit) for name, commit in found.items()}}
        _write(arguments.output, yaml.safe_dump(merge(before, pinned), sort_keys=False, allow_unicode=True))
        out.print(
            f"{len(found)} revisions are in {arguments.output}; use them with --config {arguments.output}", markup=False
        )
    return 1 if refused else 0


def _entry(catalogue: Catalogue, name: str, commit: str) -> dict[str, Any]:
    """Return the catalogue entry of a pinned model; the whole entry if the catalogue does not have the hub id."""
    entry = catalogue.model(name)
    if name in catalogue.models:
        return {"source": {"revision": commit}}
    own = {"method": entry.method, "licence": entry.licence, "description": entry.description}
    return {"source": {"hub": name, "revision": commit}, **own}


def _hub_source(catalogue: Catalogue, name: str) -> Any:
    source = catalogue.model(name).source
    if source is None or not source.hub:
        raise UsageError(f"catalogue pin: model {name} comes from no hub; `moodbench models` shows which do")
    return source


def _existing(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return load_yaml(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise PrerequisiteError(f"--output {path}: cannot be read ({error.strerror}); give another file") from error


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise PrerequisiteError(f"--output {path}: cannot be written ({error.strerror}); give another file") from error
