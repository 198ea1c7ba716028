"""Options that say what to run, one for each field of a spec, and the spec that they give."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from moodbench.cli.options import add_trust
from moodbench.cli.own_data import add_own_data, own_values
from moodbench.config import Catalogue
from moodbench.config.schema import FineTuning, Head, Quantization
from moodbench.config.yaml_files import load_yaml
from moodbench.errors import SpecError, UsageError
from moodbench.spec import BenchmarkSpec, read_spec, spec_of_preset
from moodbench.spec.benchmark_spec import RECIPE_PARTS, overridden, spec_from_values

_FIELDS = ("models", "datasets", "seeds", "max_train_examples", "max_validation_examples", "neutral_band", "protocol",
           "device", "prepare", "sampling", "quantization", "method", "head", "prompt", "recipe")  # fmt: skip


def add_what(parser: argparse.ArgumentParser) -> None:
    """Add the preset or spec file, and the lists of models and datasets that may replace it."""
    parser.add_argument("what", nargs="?", metavar="PRESET|SPEC.yaml", help="a preset's name or a spec file")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="models to compare; `moodbench models` lists them")
    add_datasets(parser)
    parser.add_argument("--seeds", type=int, metavar="N", help="train with seeds 0 to N-1")


def add_datasets(parser: argparse.ArgumentParser) -> None:
    """Add `--datasets`."""
    parser.add_argument(
        "--datasets", "--dataset", nargs="+", metavar="DATASET", help="datasets; `moodbench datasets` lists them"
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the options for the user's own data, sub-samples and changed hyper-parameters."""
    add_own_data(parser)
    add_trust(parser)
    parser.add_argument("--max-train-examples", type=int, metavar="N", help="train on a stratified sub-sample")
    parser.add_argument("--max-validation-examples", type=int, metavar="N", help="validate on a stratified sub-sample")
    parser.add_argument("--sampling", choices=("stratified", "balanced"), help="class shares of sub-samples")
    parser.add_argument("--neutral-band", type=float, metavar="X", help="mean ratings within +-X are neutral")
    parser.add_argument(
        "--quantization",
        choices=get_args(Quantization),
        help="how frozen weights are stored: nf4 is 4 bits (QLoRA), int8 8 bits, none as they are",
    )
    parser.add_argument(
        "--method",
        choices=get_args(FineTuning),
        help="how models are fine-tuned: a LoRA adapter beside frozen weights, or all weights (full)",
    )
    parser.add_argument(
        "--head",
        choices=get_args(Head),
        help="class scores of fine-tuned models: a new classification layer, or label words by the model's own "
        "language-model head",
    )
    parser.add_argument(
        "--prompt",
        metavar="NAME|FILE.yaml",
        help="template and label words: a prompt of the catalogue, or a file with one",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="hyper-parameters of all fine-tuned models: a recipe of training.yaml, such as classic; default: by kind "
        "and size",
    )
    for part, example in (
        ("lora", "r=16 lora_alpha=32"),
        ("train", "epochs=3 learning_rate=1e-3"),
        ("text", "max_length=128 truncation_side=left"),
    ):
        parser.add_argument(
            f"--{part}", nargs="+", metavar="FIELD=VALUE", help=f"change fields of {part} in training.yaml: {example}"
        )
    parser.add_argument(
        "--prepare", nargs="+", metavar="STEP", help="do to every text first: entities, links, mentions, lowercase"
    )
    parser.add_argument(
        "--augment",
        nargs="+",
        metavar="FIELD=VALUE",
        help="train on changed copies of training texts as well: word_dropout=0.1 word_swap=0.1 punctuation=0.1 "
        "copies=1",
    )


def add_device(parser: argparse.ArgumentParser, doing: str = "train and measure") -> None:
    """Add `--device`."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help=f"where to {doing}")


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """Add `--protocol`."""
    parser.add_argument("--protocol", metavar="NAME", help="measuring protocol: full or quick")


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


def values_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of BenchmarkSpec that the options give."""
    values = {name: value for name in _FIELDS if (value := getattr(arguments, name, None)) is not None}
    values |= own_values(arguments)
    for part in RECIPE_PARTS:
        if getattr(arguments, part, None) is not None:
            values[part] = parse_fields(f"--{part}", getattr(arguments, part))
    return values


def parse_fields(flag: str, pairs: list[str]) -> dict[str, Any]:
    """Return field -> value for pairs such as "epochs=3", with values read as in a spec file.

    Raises: SpecError for a pair of another form.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        field, sign, value = pair.partition("=")
        if not sign or not field or not value:
            raise SpecError(f"{flag}: {pair!r} is not FIELD=VALUE; expected such as epochs=3")
        if field in found:
            raise SpecError(f"{flag}: field {field!r} is given twice; give it once")
        found |= load_yaml(f"{field}: {value}", f"{flag} {pair}")
    return found
