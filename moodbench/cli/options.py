"""Options that several commands share, the spec that they describe, and how commands print."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from moodbench.config import Catalogue, load_catalogue
from moodbench.config.schema import FineTuning, Head, InferenceDtype, Quantization
from moodbench.config.yaml_files import load_yaml
from moodbench.data.labelling import DROP
from moodbench.data.labels import label_text
from moodbench.errors import SpecError, StoreError, UsageError
from moodbench.spec import BenchmarkSpec, read_spec, spec_of_preset
from moodbench.spec.benchmark_spec import RECIPE_PARTS, overridden, spec_from_values
from moodbench.statistics.composite import COMPOSITES, Weights
from moodbench.store import Store
from moodbench.store.schema import RECORDS

DEFAULT_STORE = "results"
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "what": {"nargs": "?", "metavar": "PRESET|SPEC.yaml", "help": "a preset's name or a spec file"},
    "--models": {
        "nargs": "+",
        "metavar": "MODEL",
        "help": "models to compare; `moodbench catalogue models` lists them",
    },
    "--datasets": {"nargs": "+", "metavar": "DATASET", "help": "datasets; see `moodbench catalogue datasets`"},
    "--seeds": {"type": int, "metavar": "N", "help": "train with seeds 0 to N-1"},
    "--data": {
        "metavar": "FILE|hub:OWNER/NAME",
        "help": "CSV, TSV, Excel (.xlsx), JSONL or Parquet with texts and labels, or a dataset of the hub "
        "(hub:OWNER/NAME@REVISION)",
    },
    "--text-column": {
        "metavar": "NAME",
        "help": "column with the texts; of a hub dataset also several: title,content",
    },
    "--label-column": {"metavar": "NAME", "help": "column with the labels: stars, numbers or words"},
    "--label-map": {
        "metavar": "LABEL=CLASS,...",
        "help": f"classes of labels, such as 1=negative,3={DROP},5=positive",
    },
    "--labels": {"metavar": "CLASS,...", "help": "2, 3 or 5 class names, most negative first"},
    "--split-column": {"metavar": "NAME", "help": "column of a file that says train, validation or test"},
    "--group-column": {"metavar": "NAME", "help": "rows of one group, such as a product, stay in one split"},
    "--data-name": {"metavar": "NAME", "help": "what the dataset is called; default: the file's name"},
    "--data-config": {"metavar": "NAME", "help": "configuration (subset) of a hub dataset"},
    "--splits": {
        "metavar": "SPLIT=NAME,...",
        "help": "which splits of a hub dataset are which, such as train=train,test=validation",
    },
    "--trust-remote-code": {
        "action": "store_true",
        "help": "run, with your rights, the code that models given by hub id or folder bring along; read it first",
    },
    "--max-train-examples": {"type": int, "metavar": "N", "help": "train on a stratified sub-sample"},
    "--max-validation-examples": {"type": int, "metavar": "N", "help": "validate on a stratified sub-sample"},
    "--sampling": {"choices": ("stratified", "balanced"), "help": "class shares of sub-samples"},
    "--neutral-band": {"type": float, "metavar": "X", "help": "mean ratings within +-X are neutral"},
    "--quantization": {
        "choices": get_args(Quantization),
        "help": "how frozen weights are stored: nf4 is 4 bits (QLoRA), int8 8 bits, none as they are",
    },
    "--method": {
        "choices": get_args(FineTuning),
        "help": "how models are fine-tuned: a LoRA adapter beside frozen weights, or all weights (full)",
    },
    "--head": {
        "choices": get_args(Head),
        "help": "class scores of fine-tuned models: a new classification layer, or label words by the model's own "
        "language-model head",
    },
    "--prompt": {
        "metavar": "NAME|FILE.yaml",
        "help": "template and label words: a prompt of the catalogue, or a file with one",
    },
    "--recipe": {
        "metavar": "NAME",
        "help": "hyper-parameters of all fine-tuned models: a recipe of training.yaml, such as classic; default: by "
        "kind and size",
    },
    "--lora": {
        "nargs": "+",
        "metavar": "FIELD=VALUE",
        "help": "change fields of lora in training.yaml: r=16 lora_alpha=32",
    },
    "--train": {
        "nargs": "+",
        "metavar": "FIELD=VALUE",
        "help": "change fields of train in training.yaml: epochs=3 learning_rate=1e-3",
    },
    "--text": {
        "nargs": "+",
        "metavar": "FIELD=VALUE",
        "help": "change fields of text in training.yaml: max_length=128 truncation_side=left",
    },
    "--prepare": {
        "nargs": "+",
        "metavar": "STEP",
        "help": "steps applied to every text: entities, breaks (<br />), escapes (\\n), links, mentions, lowercase",
    },
    "--augment": {
        "nargs": "+",
        "metavar": "FIELD=VALUE",
        "help": "also train on changed copies of training texts: word_dropout=0.1 word_swap=0.1 punctuation=0.1 "
        "copies=1",
    },
    "--inference-dtype": {
        "choices": get_args(InferenceDtype),
        "help": "number format of deployed weights; auto: that in which they were trained, on the CPU float32",
    },
    "--protocol": {"metavar": "NAME", "help": "measuring protocol: full or quick"},
    "--device": {"choices": ("auto", "cpu", "cuda", "mps"), "help": "where to train and measure"},
    "--executor": {
        "choices": ("ray", "inline"),
        "default": "ray",
        "help": "ray packs trials on this machine's processors; inline runs them in this process, for debugging",
    },
    "--address": {
        "metavar": "HOST:PORT",
        "help": "head of a Ray cluster to run on, from one of its nodes, or auto; default: RAY_ADDRESS, else this "
        "machine alone",
    },
    "--cluster": {
        "type": Path,
        "metavar": "FILE",
        "help": "YAML with the cluster's classes of nodes; see cluster/README.md",
    },
    "--retrain": {
        "choices": ("undertrained",),
        "help": "train longer: of the requested models, only those whose latest fit was not trained enough, with more "
        "epochs",
    },
    "--weights": {
        "metavar": "NAME=SHARE,...",
        "help": "what counts, adding up to 1; default: accuracy=0.3,f1=0.3,throughput=0.2,latency=0.2",
    },
    "--composite": {
        "choices": tuple(COMPOSITES),
        "default": "pinned",
        "help": "pinned: fixed anchors, a row's score does not depend on other rows; minmax: relative to the rows "
        "shown; geomean: weighted product of ratios to the baseline; none: no score, in Pareto order of error, latency "
        "and memory",
    },
    "--config": {
        "type": Path,
        "metavar": "PATH",
        "help": "YAML file or folder that adds to or changes the catalogue",
    },
    "--store": {
        "default": DEFAULT_STORE,
        "metavar": "PATH_OR_URI",
        "help": "folder or URI (s3://bucket/folder) with the results; default: %(default)s/",
    },
    "--json": {"action": "store_true", "help": "print one JSON document and nothing else"},
}
"""Options that several commands share, to their arguments for argparse; `add_options` adds them."""
ALIASES = {"--datasets": ("--dataset",)}
WHAT = ("what", "--models", "--datasets", "--seeds")
DATA = (
    "--data", "--text-column", "--label-column", "--label-map", "--labels", "--split-column", "--group-column",
    "--data-name", "--data-config", "--splits",
)  # fmt: skip
"""The user's own data."""
TARGET = ("--executor", "--address", "--cluster")
TRAINING = (
    "--trust-remote-code", "--max-train-examples", "--max-validation-examples", "--sampling", "--neutral-band",
    "--quantization", "--method", "--head", "--prompt", "--recipe", "--lora", "--train", "--text", "--prepare",
    "--augment",
)  # fmt: skip
"""Sub-samples and changed hyper-parameters."""


def add_actions(parser: argparse.ArgumentParser, description: str, *, required: bool = True) -> Any:
    """Set the description of a command with several actions, and return what `add_action` takes."""
    parser.description = description
    return parser.add_subparsers(title="actions", required=required, metavar="ACTION")


def add_action(
    actions: Any, name: str, execute: Callable[[argparse.Namespace], int], help: str, description: str = ""
) -> argparse.ArgumentParser:
    """Add an action to a command, and return its parser; the default description is the help text."""
    added: argparse.ArgumentParser = actions.add_parser(
        name, help=help, description=description or f"{help[0].upper()}{help[1:]}."
    )
    added.set_defaults(command=execute)
    return added


def add_options(parser: argparse.ArgumentParser, *names: str, **changes: Any) -> None:
    """Add those of OPTIONS that `names` list, in this order, with `changes` of their arguments."""
    group = parser.add_argument_group("your own data") if DATA[0] in names else None
    for name in names:
        to = group if group and name in DATA else parser
        to.add_argument(name, *ALIASES.get(name, ()), **{**OPTIONS[name], **changes})


def existing_store(uri: str) -> Store:
    """Return the store at `uri`.

    Raises: StoreError if it has no record, as a mistyped name would have none.
    """
    store = Store.open(uri)
    if not any(store.ids(kind) for kind in RECORDS):
        raise StoreError(
            f"--store {uri}: holds no records; give the folder of a run, or start one with `moodbench run`"
        )
    return store


def catalogue_of(arguments: argparse.Namespace) -> Catalogue:
    """Return the catalogue that `--config` and `--trust-remote-code` give."""
    return load_catalogue(arguments.config, trust_remote_code=arguments.trust_remote_code)


def address_of(arguments: argparse.Namespace) -> tuple[str | None, str]:
    """Return the address of a cluster, or None, and the option or variable that gives it."""
    if arguments.address:
        return arguments.address, "--address"
    return os.environ.get("RAY_ADDRESS") or None, "RAY_ADDRESS"


def weights_of(arguments: argparse.Namespace) -> Weights:
    """Return the weights that `--weights` gives, or the default ones."""
    return Weights.parse(arguments.weights) if arguments.weights else Weights()


def spec_of(arguments: argparse.Namespace, catalogue: Catalogue) -> BenchmarkSpec:
    """Return the spec that the command line asks for.

    Raises: UsageError if it asks for nothing.
    """
    given = values_of(arguments)
    what = arguments.what
    if what is None:
        if not given.get("models") or not (given.get("datasets") or given.get("data")):
            raise UsageError(
                f"{arguments.name}: nothing to run; give a preset "
                f"({', '.join(catalogue.presets)}), a spec file, or both --models and --datasets (or --data)"
            )
        return spec_from_values(given, "command line")
    if what.endswith((".yaml", ".yml")) or Path(what).is_file():
        written = read_spec(Path(what)).model_dump(exclude_unset=True)
        return spec_from_values(overridden(written, given), f"{what} with the options" if given else what)
    return spec_of_preset(what, catalogue, given)


def spec_of_one(arguments: argparse.Namespace, command: str, **values: Any) -> BenchmarkSpec:
    """Return the spec of `--model` on the dataset that `--dataset` or `--data` gives, with these `values` of its own.

    Raises: UsageError for both or neither of the two.
    """
    given = values_of(arguments)
    if (arguments.dataset is None) == ("data" not in given):
        both = f"--dataset {arguments.dataset} and --data {arguments.data}" if arguments.dataset else "neither"
        raise UsageError(f"{command}: needs exactly one of --dataset and --data; given: {both}")
    chosen = {"datasets": (arguments.dataset,)} if arguments.dataset is not None else {}
    return spec_from_values({**given, **chosen, "models": (arguments.model,), **values}, "command line")


def values_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of BenchmarkSpec that the options give."""
    given = {name: getattr(arguments, name, None) for name in BenchmarkSpec.model_fields}
    values = {name: value for name, value in given.items() if value is not None}
    for part in RECIPE_PARTS:
        if part in values:
            values[part] = _fields(f"--{part}", values[part])
    if "label_map" in values:
        pairs = (pair.rpartition("=") for pair in values["label_map"].split(","))  # a label may contain =
        named = [(label_text(label) or "", sign, target) for label, sign, target in pairs]
        values["label_map"] = _unique("--label-map", "LABEL=CLASS", f"1=negative,3={DROP},5=positive", named)
    if "splits" in values:
        parts = [pair.partition("=") for pair in values["splits"].split(",")]
        values["splits"] = _unique("--splits", "SPLIT=NAME", "train=train,test=validation", parts)
    if "labels" in values:
        values["labels"] = [label.strip() for label in values["labels"].split(",")]
    return values


def _fields(option: str, pairs: list[str]) -> dict[str, Any]:
    """Return field -> value for pairs such as "epochs=3", with values read as in a spec file."""
    found: dict[str, Any] = {}
    for field, value in _unique(option, "FIELD=VALUE", "epochs=3", [pair.partition("=") for pair in pairs]).items():
        found |= load_yaml(f"{field}: {value}", f"{option} {field}={value}")
    return found


def _unique(option: str, form: str, example: str, pairs: list[tuple[str, str, str]]) -> dict[str, str]:
    """Return key -> value for pairs of a key, an equals sign and a value.

    Raises: SpecError for a pair of another form, or a key that is given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = (part.strip() for part in pair)
        if not sign or not key or not value:
            raise SpecError(f"{option}: {''.join(pair).strip()!r} is not {form}; expected such as {example}")
        if key in found:
            raise SpecError(f"{option}: {key!r} is given twice ({found[key]!r} and {value!r}); give it once")
        found[key] = value
    return found


def print_json(value: Any) -> None:
    """Write `value` as the only JSON document on standard output."""
    is_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    json.dump(value, sys.stdout, indent=1, ensure_ascii=not is_unicode, allow_nan=False, default=str)
    sys.stdout.write("\n")


def print_lines(console: Console, lines: Iterable[str], style: str | None = None) -> None:
    """Print each line verbatim, without wrapping it."""
    for line in lines:
        console.print(line, markup=False, emoji=False, soft_wrap=True, style=style)
