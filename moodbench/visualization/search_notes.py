"""What stands behind a contender that a search chose: how many configurations were tried, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moodbench.tuning.searched import Searched
from moodbench.tuning.tuned import tuned_name


def search_notes(shown: Iterable[tuple[str, str, str]], searches: Sequence[Searched]) -> list[str]:
    """A sentence per tuned contender among the (model, data set, recipe's id) triples `shown`, in their order.

    Every recorded search of its model on its data set counts, as a person has seen the outcome of all of them; and so does
    every recipe that was tested under its name, as with each the chance grows that one looks better by luck.
    """
    recipes: dict[tuple[str, str], set[str]] = {}
    for name, dataset, config_id in shown:
        recipes.setdefault((name, dataset), set()).add(config_id)
    notes = []
    for (name, dataset), tested in recipes.items():
        behind = [s for s in searches if tuned_name(s.model) == name and s.dataset == dataset]
        if not behind:
            continue
        trials = [t for s in behind for t in s.trials]
        num = f"{len(behind)} search{'es' if len(behind) > 1 else ''} of {', '.join(sorted({s.space for s in behind}))}"
        texts, seconds = sum(t.texts_trained for t in trials), sum(t.train_time_s for t in trials)
        notes.append(
            f"{name} on {dataset} was chosen from {len(trials)} configurations ({num}, validation split): "
            f"{texts:,} texts trained in {seconds / 60:.1f} min of trials, beside its own training time."
            + (
                f" {len(tested)} of their winners were tested, so read the best of them with care."
                if len(tested) > 1
                else ""
            )
        )
    return notes
