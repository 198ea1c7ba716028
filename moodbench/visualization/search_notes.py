"""What stands behind a contender that a search chose: how many configurations were tried, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moodbench.tuning.records import SearchTrial
from moodbench.tuning.tuned import tuned_name


def search_notes(shown: Iterable[tuple[str, str]], trials: Sequence[SearchTrial]) -> list[str]:
    """A sentence per tuned contender among the (name, data set) pairs `shown`, in their order.

    Every recorded search of its model on its data set counts, as a person has seen the outcome of all of them.
    """
    notes = []
    for name, dataset in shown:
        behind = [t for t in trials if tuned_name(t.model) == name and t.dataset == dataset]
        if not behind:
            continue
        num_searches = len({t.search_id for t in behind})
        searches = f"{num_searches} search{'es' if num_searches > 1 else ''}"
        texts, seconds = sum(t.texts_trained for t in behind), sum(t.train_time_s for t in behind)
        notes.append(
            f"{name} on {dataset} was chosen from {len(behind)} configurations ({searches}, validation split): "
            f"{texts:,} texts trained in {seconds / 60:.1f} min of trials, beside its own training time."
        )
    return notes
