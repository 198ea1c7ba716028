"""Confirmation of a search: the winner and the default recipe on the test split, with new seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from moodbench.analysis.pairwise import compare_models
from moodbench.cli.leaderboard import output
from moodbench.cli.running import carry_out, exit_code_of_run
from moodbench.errors import INTERRUPTED
from moodbench.report.leaderboard_view import view_leaderboard
from moodbench.report.search import NONE_COMPLETED, shown
from moodbench.report.tables import pair_sentence
from moodbench.spec import TrialSpec
from moodbench.statistics.paired import PairedDifference
from moodbench.store import Store
from moodbench.tune.result import (
    TOLERANCE,
    challenger,
    evaluated,
    tested_before,
    tuned_entry,
    tuned_name,
)
from moodbench.tune.search import Search
from moodbench.tune.trials import SearchTrial, read_progress

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from moodbench.benchmark.context import RunContext
    from moodbench.spec import BenchmarkSpec


@dataclass(frozen=True)
class TuneCommand:
    """One call of `moodbench tune`."""

    arguments: argparse.Namespace
    spec: BenchmarkSpec
    context: RunContext
    console: Console

    def say(self, text: str) -> None:
        """Print a line without markup."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def confirm(command: TuneCommand, search: Search, trials: Sequence[SearchTrial], best: SearchTrial) -> int:
    """Compare the pick with the default; return 0 if both are compared, 1 if a trial failed, 130 if interrupted.

    Quality comes first: the verdict is printed before anything is measured. Speed depends on the recipe and not on its
    seed, so one seed of each is measured.
    """
    default_wins = search.is_default(best.fit_id)
    other = challenger(trials, search.objective, search.base.fit_id) if default_wins else best
    model, catalogue = command.arguments.model, command.context.catalogue
    models: tuple[str, ...] = (model,)
    if other is not None:
        name = tuned_name(model, search.search_id)
        entry = tuned_entry(search, other, len(trials), catalogue, command.spec, default_wins=default_wins)
        catalogue, models = replace(catalogue, models={**catalogue.models, name: entry}), (model, name)
    spec = command.spec.model_copy(update={"models": models, "seeds": search.confirmation_seeds})
    context = replace(command.context, catalogue=catalogue)
    resolved = context.resolve(spec)
    plan = context.plan(resolved, "evaluate")
    _announce_confirmation(command, search, trials, other, plan.num_phases_missing, default_wins=default_wins)
    tested = carry_out(context, plan, command.console, spec)
    if tested is None:
        return INTERRUPTED
    if not tested.failures:
        _print_verdict(command, search, trials, best, other, resolved)
    to_measure = context.plan(evaluated(resolved, search.confirmation_seeds[0], context.store))
    measured = carry_out(context, to_measure, command.console)
    if measured is None:
        return INTERRUPTED
    output(view_leaderboard(context.store, context.machine), command.arguments, command.console)
    return max(exit_code_of_run(tested, command.console), exit_code_of_run(measured, command.console))


def _announce_confirmation(
    command: TuneCommand,
    search: Search,
    trials: Sequence[SearchTrial],
    other: SearchTrial | None,
    num_phases: int,
    *,
    default_wins: bool,
) -> None:
    model, seeds = command.arguments.model, ", ".join(map(str, search.confirmation_seeds))
    if other is None:
        command.say(
            f"Confirmation: only the default recipe has a score, so {model} alone is trained anew with seeds {seeds}."
        )
    else:
        command.say(
            f"Confirmation: {tuned_name(model, search.search_id)}, "
            f"{'the best of the others' if default_wins else 'the pick'}, and {model}, the default recipe, are trained "
            f"anew with seeds {seeds} and compared on the test split; {num_phases} phases to run."
        )
    before = tested_before(command.context.store, search, trials) - {other.fit_id if other else ""}
    if before:
        command.say(
            f"{len(before)} other configuration{'s' if len(before) > 1 else ''} of this search "
            f"{'were' if len(before) > 1 else 'was'} tested before: each comparison raises the chance that one looks "
            "better by luck."
        )


def _print_verdict(
    command: TuneCommand,
    search: Search,
    trials: Sequence[SearchTrial],
    best: SearchTrial,
    other: SearchTrial | None,
    resolved: Sequence[TrialSpec],
) -> None:
    model, store = command.arguments.model, command.context.store
    name, recipes = tuned_name(model, search.search_id), {trial.fit.config_id for trial in resolved}
    dataset = search.base.dataset.name
    compared = () if other is None else compare_models(store, name, model, dataset, config_ids=recipes)
    for each in compared:
        command.say(pair_sentence(name, model, each.track, each.difference, each.f1, same_recipe=each.same_recipe))
        command.say(describe_pick(search, best, other, each.difference))
    if not compared:
        command.say(describe_pick(search, best, other, None))
    command.say(describe_cost(store, search, trials))


def describe_pick(
    search: Search, best: SearchTrial, other: SearchTrial | None, difference: PairedDifference | None
) -> str:
    """Describe the pick, with the test result of the confirmed configuration against the default recipe."""
    result = None if difference is None else _describe_difference(difference)
    pick = f"Pick: {json.dumps(best.configuration)}"
    if not search.is_default(best.fit_id):
        return f"{pick}; {result}." if result else f"{pick}."
    why = f"no configuration beat it by more than {shown(TOLERANCE, best.metric)} on validation"
    if search.objective == "memory":
        why = "of the scores near the best it takes the least memory"
    elif best.status != "finished":
        why = NONE_COMPLETED
    pick = f"{pick}, the default recipe: {why}."
    if other is None or result is None:
        return pick
    return (
        f"{pick} The best of the others, {json.dumps(other.configuration)}: {result}. "
        "The pick was made on validation and does not change."
    )


def _describe_difference(difference: PairedDifference) -> str:
    """Return the difference on the test split, its interval, and the lower end of the narrower one for equivalence."""
    low, high = (f"{100 * end:+.1f}" for end in (difference.low, difference.high))
    narrow = f"{100 * max(2 * difference.level - 1, 0.01):.0f} % interval from {100 * difference.rope_low:+.1f}"
    return (
        f"accuracy on the test split {100 * difference.delta:+.1f} points to the default, "
        f"{100 * difference.level:.0f} % interval {low} to {high}, {narrow}"
    )


def describe_cost(store: Store, search: Search, trials: Sequence[SearchTrial]) -> str:
    """Describe the cost of the search, relative to the full grid."""
    ended = [t for t in trials if t.status != "unfinished"]
    cut_off = read_progress(store, search.search_id).without_record({t.fit_id for t in ended}).values()
    cut_texts = sum(each.curve[-1][0] for each in cut_off if each.curve)
    texts = sum(t.texts_trained for t in ended) + cut_texts
    seconds = sum(t.train_time_s for t in ended) + sum(each.seconds for each in cut_off)
    return (
        f"The search cost {texts:,} texts trained, {100 * texts / search.grid_texts:.1f} % of the "
        f"{search.grid_texts:,} of the full grid of {search.num_grid:,}, in {seconds:.0f} s of trials; {cut_texts:,} "
        "of these texts were in trials that were cut off."
    )
