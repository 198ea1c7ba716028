"""Confirmation of `moodbench tune`: train the pick and the default with the registered seeds, and compare them on test.

If the default recipe is the pick, the best of the other configurations is compared with it, so that the benefit of the
search is shown either way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from moodbench.analysis.pairwise import compare_models
from moodbench.cli.leaderboard import output
from moodbench.cli.running import carry_out, exit_code
from moodbench.cli.tune_context import TuneContext
from moodbench.errors import INTERRUPTED
from moodbench.report.leaderboard_view import view_leaderboard
from moodbench.report.search import NO_END, shown
from moodbench.report.tables import pair_sentence
from moodbench.spec import TrialSpec
from moodbench.statistics.paired import PairedDifference
from moodbench.store import Store
from moodbench.tune.objectives import TOLERANCE, challenger
from moodbench.tune.tuned import tuned_name

if TYPE_CHECKING:
    from moodbench.tune.records import SearchTrial
    from moodbench.tune.request import SearchRequest


class Confirmation(TuneContext):
    """Confirmation of the pick of a search on the test split."""

    def carry_out(
        self, request: SearchRequest, seeds: tuple[int, ...], trials: Sequence[SearchTrial], best: SearchTrial
    ) -> int:
        """Compare the pick with the default; return 0 if both are compared, 1 if a trial failed, 130 if interrupted.

        Quality comes first: the verdict is printed before anything is measured. Speed depends on the recipe and not on
        its seed, so one seed of each is measured.
        """
        from moodbench.tune.confirmed import tested_before
        from moodbench.tune.requesting import tuned_entry, with_tuned

        model = self.arguments.model
        name = tuned_name(model, request.search_id)
        default = request.base.fit_id
        stays = request.is_default(best.fit_id)
        beside = challenger(trials, request.objective, default) if stays else best
        both, models = self.context.catalogue, tuple[str, ...]((model,))
        if beside is not None:
            entry = tuned_entry(request, beside, len(trials), self.context.catalogue, self.spec, stays=stays)
            both, models = with_tuned(self.context.catalogue, name, entry), (model, name)
        confirm = self.spec.model_copy(update={"models": models, "seeds": seeds})
        context = replace(self.context, catalogue=both)
        found = context.resolve(confirm)
        plan = context.plan(found, "evaluate")
        said = ", ".join(map(str, seeds))
        self.say(
            f"Confirmation: nothing but the default recipe has a score, so {model} alone is trained anew with seeds "
            f"{said}."
            if beside is None
            else f"Confirmation: {name}, {'the best of the others' if stays else 'the pick'}, and {model}, the default "
            f"recipe, are trained anew with seeds {said} and compared on the test split; "
            f"{plan.num_phases_missing} phases to run."
        )
        before = tested_before(self.context.store, request, trials, name) - {beside.fit_id if beside else ""}
        if before:
            self.say(
                f"{len(before)} other configuration{'s' if len(before) > 1 else ''} of this search "
                f"{'were' if len(before) > 1 else 'was'} tested before: with each that is compared, the chance grows "
                "that one looks better by luck."
            )
        tested = carry_out(context, plan, self.console, confirm)
        if tested is None:
            return INTERRUPTED
        if not tested.failures:
            self._verdict(request, trials, best, beside, found)
        measured = carry_out(context, context.plan(evaluated(found, seeds[0], context.store)), self.console)
        if measured is None:
            return INTERRUPTED
        output(view_leaderboard(self.context.store, self.context.machine), self.arguments, self.console)
        return max(exit_code(tested, self.console), exit_code(measured, self.console))

    def _verdict(
        self,
        request: SearchRequest,
        trials: Sequence[SearchTrial],
        best: SearchTrial,
        beside: SearchTrial | None,
        found: Sequence[TrialSpec],
    ) -> None:
        model, dataset = self.arguments.model, request.base.dataset.name
        name, recipes = tuned_name(model, request.search_id), {trial.fit.config_id for trial in found}
        compared = (
            () if beside is None else compare_models(self.context.store, name, model, dataset, config_ids=recipes)
        )
        for each in compared:
            self.say(pair_sentence(name, model, each.track, each.difference, each.f1, same_recipe=each.same_recipe))
            self.say(pick_words(request, best, beside, each.difference))
        if not compared:
            self.say(pick_words(request, best, beside, None))
        self.say(search_cost(self.context.store, request, trials))


def evaluated(trials: Sequence[TrialSpec], seed: int, store: Store) -> list[TrialSpec]:
    """Return the trials with this seed whose evaluation is in `store`.

    A trial that failed before is not tried again only to be measured.
    """
    there = store.ids("evaluations")
    return [trial for trial in trials if trial.fit.seeds.init == seed and trial.evaluate.evaluation_id in there]


def pick_words(
    request: SearchRequest, best: SearchTrial, beside: SearchTrial | None, difference: PairedDifference | None
) -> str:
    """Return the pick in words, with the test result of the confirmed configuration against the default recipe."""
    console = None if difference is None else difference_words(difference)
    said = f"Pick: {json.dumps(best.configuration)}"
    if not request.is_default(best.fit_id):
        return f"{said}; {console}." if console else f"{said}."
    why = f"nothing that was tried beat it by more than {shown(TOLERANCE, best.metric)} on validation"
    if request.objective == "memory":
        why = "of the scores near the best it takes the least memory"
    elif best.status != "finished":
        why = NO_END
    said = f"{said}, the default recipe: {why}."
    if beside is None or console is None:
        return said
    return (
        f"{said} The best of the others, {json.dumps(beside.configuration)}: {console}. The pick was settled on "
        "validation and stays what it is."
    )


def difference_words(difference: PairedDifference) -> str:
    """Return the difference on the test split in words.

    The text gives its interval, and the lower end of the narrower interval by which equivalence is judged.
    """
    low, high = (f"{100 * end:+.1f}" for end in (difference.low, difference.high))
    narrow = f"{100 * max(2 * difference.level - 1, 0.01):.0f} % interval from {100 * difference.rope_low:+.1f}"
    return (
        f"accuracy on the test split {100 * difference.delta:+.1f} points to the default, "
        f"{100 * difference.level:.0f} % interval {low} to {high}, {narrow}"
    )


def search_cost(store: Store, request: SearchRequest, trials: Sequence[Any]) -> str:
    """Return the cost of the search in words, relative to the full grid."""
    from moodbench.tune.underway import spent

    ended = [t for t in trials if t.status != "unfinished"]
    cut_texts, cut_s = spent(store, request.search_id).without({t.fit_id for t in ended})
    texts = sum(t.texts_trained for t in ended) + cut_texts
    seconds = sum(t.train_time_s for t in ended) + cut_s
    return (
        f"The search cost {texts:,} texts trained, {100 * texts / request.grid_texts:.1f} % of the "
        f"{request.grid_texts:,} of the full grid of {request.num_grid:,}, in {seconds:.0f} s of trials, {cut_texts:,} "
        "texts of it in what was cut off."
    )
