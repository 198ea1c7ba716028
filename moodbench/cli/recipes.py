"""`moodbench recipes`: list the recipes of the catalogue, or compare one with published results."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, get_args

from rich.console import Console

from moodbench.benchmark.published import Comparison, compare_published
from moodbench.cli.options import (
    DATA,
    TARGET,
    TRAINING,
    add_action,
    add_actions,
    add_options,
    catalogue_of,
    print_json,
    print_lines,
    values_of,
)
from moodbench.cli.running import carry_out, exit_code_of_run, open_context
from moodbench.config import Catalogue, load_catalogue
from moodbench.config.schema import FineTuning, Head, ModelEntry
from moodbench.errors import INTERRUPTED, UsageError
from moodbench.models.families import num_params_of
from moodbench.report.formatting import MISSING, percent
from moodbench.report.terminal import make_console, print_table
from moodbench.spec import BenchmarkSpec, FitSpec
from moodbench.spec.benchmark_spec import spec_from_values

RECIPE_HEADINGS = ("Recipe", "For", "Changes", "Own recipe of")
HEADINGS = ("Dataset", "Split", "Published %", "Method", "Ours %", "95 % interval", "Seeds", "Difference", "Verdict",
            "Source")  # fmt: skip
LEFT = {"Dataset", "Split", "Method", "Seeds", "Verdict", "Source"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and actions of `moodbench recipes`."""
    actions = add_actions(
        parser, "List the recipes of training.yaml, and which models use each by default.", required=False
    )
    add_options(parser, "--config", "--json")
    parser.set_defaults(command=list_recipes)
    listing = add_action(actions, "list", list_recipes, "list the recipes (default)")
    check = add_action(
        actions,
        "check",
        check_recipe,
        "compare a model's recipe with published results",
        "Train a model by its own recipe on the datasets for which published.yaml has results of it, evaluate it, and "
        "print the published accuracies beside ours. Nothing is measured. Rerun the command to resume.",
    )
    check.add_argument("model", metavar="MODEL", help="a model with published results; see published.yaml or --config")
    add_options(check, "--datasets", "--seeds", *DATA, *TRAINING)
    add_options(check, "--device", help="where to train")
    add_options(check, *TARGET, "--store")
    for action in (listing, check):
        add_options(action, "--config", "--json", default=argparse.SUPPRESS)  # keeps one given before the action


def list_recipes(arguments: argparse.Namespace) -> int:
    """Print the recipes and return 0."""
    rows = recipe_rows(load_catalogue(arguments.config))
    if arguments.json:
        print_json(rows)
        return 0
    table = [
        [
            row["name"],
            row["description"],
            ", ".join(f"{part}.{k}={v}" for part in ("lora", "train") for k, v in row[part].items()),
            ", ".join(row["models"]) or MISSING,
        ]
        for row in rows
    ]
    print_table(RECIPE_HEADINGS, table, make_console(), left=set(RECIPE_HEADINGS))
    return 0


def recipe_rows(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Return a row for each recipe, with the fine-tuned catalogue models that use it by default."""
    own = {name: _own_recipe(entry, catalogue) for name, entry in catalogue.models.items()}
    return [
        {
            "name": name,
            "description": recipe.description,
            **recipe.model_dump(include={"kind", "head", "method", "max_params", "lora", "train"}),
            "models": [model for model, chosen in own.items() if chosen == name],
        }
        for name, recipe in catalogue.training.recipes.items()
    ]


def _own_recipe(entry: ModelEntry, catalogue: Catalogue) -> str | None:
    """Return the name of the recipe that a catalogue model uses by default; None if it has none."""
    if entry.method not in get_args(FineTuning) or entry.family is None:
        return None
    kind = catalogue.families[entry.family].kind
    head: Head = entry.head or ("classification" if kind == "encoder" else "label-words")
    return catalogue.default_recipe(kind, head, entry.size.num_params if entry.size else 0, entry.method)


def check_recipe(arguments: argparse.Namespace) -> int:
    """Train and evaluate a model, and compare it with published results.

    Returns 0 if every phase has its record, 1 if one failed, 130 if interrupted.
    """
    catalogue = catalogue_of(arguments)
    spec = spec_of_check(arguments, catalogue)
    out = make_console(stderr=arguments.json)
    with open_context(arguments, catalogue, out) as context:
        plan = context.plan(context.resolve(spec, with_baseline=False), until="evaluate")
        summary = carry_out(context, plan, out, spec)
    if summary is None:
        return INTERRUPTED
    found = compare_published(plan.requested, context.store, catalogue, spec)
    recipe = spec.recipe or _recipe_of_fit(plan.requested[0].fit, catalogue)
    if arguments.json:
        results = [comparison.to_record() for comparison in found]
        print_json({"store": context.store.uri, "model": arguments.model, "recipe": recipe, "results": results})
    else:
        _show(found, arguments.model, recipe, out)
    return exit_code_of_run(summary, out)


def spec_of_check(arguments: argparse.Namespace, catalogue: Catalogue) -> BenchmarkSpec:
    """Return the spec of a check.

    Raises: UsageError for a model without a recipe, or a model or dataset without published results.
    """
    name = arguments.model
    entry = catalogue.model(name)
    known = ", ".join(n for n, results in catalogue.published.items() if results)
    if entry.method not in get_args(FineTuning):
        raise UsageError(
            f"recipes check: model {name}: method {entry.method} has no recipe; give a fine-tuned model with published "
            f"results: {known}"
        )
    published = tuple(dict.fromkeys(result.dataset for result in catalogue.published.get(name, ())))
    if not published:
        raise UsageError(
            f"recipes check: model {name}: has no published results in the catalogue; give one that has: {known}, "
            "or add results under `published` in a file for --config"
        )
    values = values_of(arguments)
    if "data" in values:
        raise UsageError(
            f"recipes check: --data {arguments.data}: only datasets of the catalogue have published results; use "
            f"--dataset with {', '.join(published)}"
        )
    for dataset in values.get("datasets", ()):
        catalogue.dataset(dataset)
        if dataset not in published:
            raise UsageError(
                f"recipes check: --dataset {dataset}: no published result of {name} on it; there are results on "
                f"{', '.join(published)}"
            )
    return spec_from_values({"datasets": published, **values, "models": (name,)}, "command line")


def _recipe_of_fit(fit: FitSpec, catalogue: Catalogue) -> str | None:
    """Return the name of the recipe that the model of a fit uses by default; None if it has none."""
    assert fit.model.family is not None
    entry, family = catalogue.model(fit.model.name), catalogue.families.get(fit.model.family)
    head: Head = "classification" if fit.prompt is None else "label-words"
    if family is None:
        return None
    return catalogue.default_recipe(family.kind, head, num_params_of(fit.model.name, entry), fit.model.method)


def _show(found: Sequence[Comparison], model: str, recipe: str | None, out: Console) -> None:
    print_lines(out, ["", f"{model}, recipe {recipe or 'defaults'}"], style="bold")
    print_table(HEADINGS, [_cells(each) for each in found], out, left=LEFT)
    print_lines(out, dict.fromkeys(f"Note: {note}." for each in found for note in each.notes), style="dim")
    worst = {
        each.published.dataset: each for each in sorted(found, key=lambda c: -(c.difference_points or 0)) if each.advice
    }
    advice = [f"{model} on {name}: {each.verdict}: try {'; '.join(each.advice)}." for name, each in worst.items()]
    print_lines(out, advice)


def _cells(each: Comparison) -> list[str]:
    published, reached = each.published, each.reached
    interval = reached.interval if reached else None
    return [
        published.dataset,
        published.split,
        f"{published.accuracy:g}",
        published.method,
        percent(reached.accuracy if reached else None),
        f"{percent(interval.low)} to {percent(interval.high)}" if interval else MISSING,
        ", ".join(map(str, reached.seeds)) if reached else MISSING,
        MISSING if each.difference_points is None else f"{each.difference_points:+.1f}",
        each.verdict,
        published.source,
    ]
