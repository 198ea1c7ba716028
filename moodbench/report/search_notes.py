"""Notes on models that a search chose: how many configurations were tried, and at what cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moodbench.tune.result import Searched
from moodbench.tune.tuned import names_a_winner


def search_notes(shown: Iterable[tuple[str, str, str]], searches: Sequence[Searched]) -> list[str]:
    """Return a sentence per tuned model in `shown`, triples of model, dataset and recipe id, in their order.

    Every recorded search of a model on its dataset counts, as the user has seen the outcome of all of them. So does
    every recipe that was tested under its name, as each raises the chance that one looks better by luck.
    """
    recipes: dict[tuple[str, str], set[str]] = {}
    for name, dataset, config_id in shown:
        recipes.setdefault((name, dataset), set()).add(config_id)
    notes = []
    for (name, dataset), tested in recipes.items():
        own = next((s for s in searches if names_a_winner(name, s.model, s.search_id) and s.dataset == dataset), None)
        if own is None:
            continue
        behind = [s for s in searches if (s.model, s.dataset) == (own.model, own.dataset)]
        trials = [t for s in behind for t in s.trials]
        num = f"{len(behind)} search{'es' if len(behind) > 1 else ''} of {', '.join(sorted({s.space for s in behind}))}"
        texts, seconds = sum(t.texts_trained for t in trials), sum(t.train_time_s for t in trials)
        stays = own.best is not None and own.best.fit_id == own.default_fit_id
        how = "is the best but for the default recipe, which stays the pick, of" if stays else "was chosen from"
        notes.append(
            f"{name} on {dataset} {how} {len(trials)} configurations ({num}, validation split): "
            f"{texts:,} texts trained in {seconds / 60:.1f} min of trials, beside its own training time."
            + (
                f" {len(tested)} configurations were tested under that name, so read the best of them with care."
                if len(tested) > 1
                else ""
            )
        )
    return notes
