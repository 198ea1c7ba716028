"""What stands behind a contender that a search chose: how many configurations were tried, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moodbench.tuning.searched import Searched
from moodbench.tuning.tuned import tuned_name


def search_notes(shown: Iterable[tuple[str, str]], searches: Sequence[Searched]) -> list[str]:
    """A sentence per tuned contender among the (name, data set) pairs `shown`, in their order.

    Every recorded search of its model on its data set counts, as a person has seen the outcome of all of them.
    """
    notes = []
    for name, dataset in dict.fromkeys(shown):
        behind = [s for s in searches if tuned_name(s.model) == name and s.dataset == dataset]
        if not behind:
            continue
        trials = [t for s in behind for t in s.trials]
        num = f"{len(behind)} search{'es' if len(behind) > 1 else ''} of {', '.join(sorted({s.space for s in behind}))}"
        texts, seconds = sum(t.texts_trained for t in trials), sum(t.train_time_s for t in trials)
        notes.append(
            f"{name} on {dataset} was chosen from {len(trials)} configurations ({num}, validation split): "
            f"{texts:,} texts trained in {seconds / 60:.1f} min of trials, beside its own training time."
        )
    return notes
