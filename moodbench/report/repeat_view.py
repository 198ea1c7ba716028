"""Results of repeated trials, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from moodbench.benchmark.repeat import Repeat

HEADINGS = ("Model", "Dataset", "Seed", "Texts", "Other label", "Largest logit difference", "Accuracy", "Training s")
LEFT = {"Model", "Dataset"}


def repeat_rows(repeats: Sequence[Repeat]) -> list[tuple[str, ...]]:
    """Return one row of cells per repeat, under `HEADINGS`."""
    return [
        (
            r.model,
            r.dataset,
            str(r.seed),
            f"{r.num_texts:,}",
            f"{r.num_flips:,}",
            "0" if r.max_logit_difference == 0 else f"{r.max_logit_difference:.1e}",
            f"{r.accuracy[0]:.4f} → {r.accuracy[1]:.4f}",
            f"{r.train_time_s[0]:.1f} → {r.train_time_s[1]:.1f}",
        )
        for r in repeats
    ]


def repeat_sentence(repeats: Sequence[Repeat]) -> str:
    """Describe how many repeats gave the same results."""
    if not repeats:
        return "The store has no evaluation of these trials yet, so there is nothing to compare with."
    same = sum(r.max_logit_difference == 0 for r in repeats)
    labels = sum(r.num_flips == 0 for r in repeats)
    return (
        f"{len(repeats)} trials done again: {same} with the very same logits, {labels} with the same labels. "
        "The first results stand."
    )
