"""Accuracy of a recipe compared with published results of the same model on the same dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from moodbench.analysis.leaderboard import accuracy_interval
from moodbench.analysis.results import PredictedClasses
from moodbench.benchmark.from_store import undertrained
from moodbench.config import Catalogue
from moodbench.config.schema import DatasetEntry, PublishedResult, TrainDefaults
from moodbench.estimate.duration import TOKENS_PER_WORD
from moodbench.spec import BenchmarkSpec, FitSpec, TrialSpec
from moodbench.statistics.intervals import Interval
from moodbench.store import Store

TOLERANCE_POINTS = 1.0
"""Percentage points below a published accuracy at which ours still counts as published."""
MAX_CARVED = 1 / 8
"""Largest share of the training split that is split off for validation where a dataset has no validation split."""
LONGEST = 512
"""Context length of most encoders in tokens."""
NAMES_OF_VALIDATION = ("dev", "validation")


@dataclass(frozen=True)
class Reached:
    """Result of one recipe on the test split of one dataset."""

    accuracy: float
    """Mean over the seeds."""
    interval: Interval | None
    """Wilson interval for one seed, items x seeds for several; None if predictions are not stored."""
    seeds: tuple[int, ...]
    num_train: int
    num_test: int


@dataclass(frozen=True)
class Comparison:
    """A published result beside ours."""

    model: str
    published: PublishedResult
    reached: Reached | None
    """None if no seed has been evaluated."""
    notes: tuple[str, ...]
    """Differences between the two apart from the recipe."""
    advice: tuple[str, ...] = ()
    """Suggestion if ours is below."""

    @property
    def difference_points(self) -> float | None:
        """Our accuracy minus the published one, in percentage points."""
        return None if self.reached is None else round(100 * self.reached.accuracy - self.published.accuracy, 6)

    @property
    def as_published(self) -> bool | None:
        """Whether our interval reaches the published accuracy, or ours is at most `TOLERANCE_POINTS` below it."""
        if self.reached is None or self.difference_points is None:
            return None
        interval = self.reached.interval
        reaches = interval is not None and 100 * interval.high >= self.published.accuracy
        return reaches or self.difference_points >= -TOLERANCE_POINTS

    @property
    def verdict(self) -> str:
        """The comparison in words: as published, N points below, or not evaluated."""
        if self.difference_points is None:
            return "not evaluated"
        return "as published" if self.as_published else f"{-self.difference_points:.1f} points below"

    def to_record(self) -> dict[str, Any]:
        """Return plain values; accuracies are shares."""
        reached, interval = self.reached, self.reached and self.reached.interval
        return {
            "dataset": self.published.dataset,
            "published_accuracy": round(self.published.accuracy / 100, 6),
            "published_split": self.published.split,
            "published_method": self.published.method,
            "source": self.published.source,
            "accuracy": reached and reached.accuracy,
            "accuracy_low": interval and interval.low,
            "accuracy_high": interval and interval.high,
            "interval_method": interval and interval.method,
            "seeds": list(reached.seeds) if reached else [],
            "num_train": reached and reached.num_train,
            "num_test": reached and reached.num_test,
            "difference_points": self.difference_points,
            "as_published": self.as_published,
            "verdict": self.verdict,
            "notes": list(self.notes),
            "advice": list(self.advice),
        }


def compare_published(
    trials: Sequence[TrialSpec], store: Store, catalogue: Catalogue, spec: BenchmarkSpec
) -> list[Comparison]:
    """Return each published result of the models and datasets of `trials` beside ours in `store`.

    `spec` is the request that `trials` were resolved from.
    """
    fits = store.records("fits")
    longer = {(u.model, u.dataset): u.suggested for u in undertrained(trials, fits) if u.suggested is not None}
    groups: dict[tuple[str, str], list[TrialSpec]] = {}
    for trial in trials:
        groups.setdefault((trial.fit.model.name, trial.fit.dataset.name), []).append(trial)
    found = []
    for (model, dataset), group in groups.items():
        entry, ours = catalogue.dataset(dataset), _reached(group, store)
        advice = _advice(group[0].fit, entry, ours, spec, longer.get((model, dataset)))
        for result in (r for r in catalogue.published.get(model, ()) if r.dataset == dataset):
            comparison = Comparison(model, result, ours, _notes(result, entry, ours))
            below = comparison.as_published is False
            found.append(Comparison(model, result, ours, comparison.notes, advice if below else ()))
    return found


def _reached(trials: Sequence[TrialSpec], store: Store) -> Reached | None:
    """Return the result of `trials`, the seeds of one recipe; None if none has been evaluated."""
    evaluations = store.records("evaluations")
    rows = evaluations[evaluations["evaluation_id"].isin([t.evaluate.evaluation_id for t in trials])].sort_values(
        "seed"
    )
    if rows.empty:
        return None
    fits = store.records("fits").set_index("fit_id")
    return Reached(
        accuracy=float(rows["accuracy"].mean()),
        interval=accuracy_interval(rows, PredictedClasses(store, rows).correct),
        seeds=tuple(int(seed) for seed in rows["seed"]),
        num_train=int(fits.loc[rows["fit_id"], "num_train"].max()),
        num_test=int(rows["num_test"].iloc[0]),
    )


def _source_split(entry: DatasetEntry, split: Literal["train", "test"]) -> str:
    """Return the source's own name of our train or test split."""
    return (entry.hub.splits.get(split, split) if entry.hub else None) or split


def _notes(result: PublishedResult, entry: DatasetEntry, ours: Reached | None) -> tuple[str, ...]:
    """Return how the test and training texts of a published result differ from ours."""
    here, notes = _source_split(entry, "test"), []
    if result.split == "GLUE test":
        notes.append(f"{result.dataset}: the labels of the GLUE test split are hidden; ours is on the {here} split")
    elif result.split != here and not {result.split, here} <= set(NAMES_OF_VALIDATION):
        notes.append(f"{result.dataset}: published on {result.split}, ours on {here}")
    if entry.hub and "test" in entry.hub.draw:
        notes.append(f"{result.dataset}: ours is on {entry.hub.draw['test']:,} texts drawn from the {here} split")
    available = _available(entry)
    if ours and available and ours.num_train < (1 - MAX_CARVED) * available:
        notes.append(f"{result.dataset}: ours is trained on {ours.num_train:,} of {available:,} texts")
    return tuple(notes)


def _available(entry: DatasetEntry) -> int | None:
    """Return the number of training texts in the source; None if its sizes are not published."""
    return entry.num_source_rows.get(_source_split(entry, "train"))


def _advice(
    fit: FitSpec, entry: DatasetEntry, ours: Reached | None, spec: BenchmarkSpec, longer: TrainDefaults | None
) -> tuple[str, ...]:
    """Return what may raise the accuracy of `fit`, most effective first.

    `longer` is a longer training if the fit was not trained enough.
    """
    model, dataset, tips = fit.model.name, fit.dataset.name, []
    available = _available(entry)
    if spec.max_train_examples is not None:
        tips.append("all training texts (leave out --max-train-examples)")
    elif ours and available and ours.num_train < (1 - MAX_CARVED) * available:
        tips.append(f"more training texts (hub.draw.train of {dataset} in a file for --config)")
    if longer is not None:
        limit = "" if longer.max_steps is None else f" max_steps={longer.max_steps}"
        tips.append(f"--train epochs={longer.epochs:g}{limit}, as the fit was not trained enough")
    if fit.text and entry.mean_words and fit.text.max_length < min(LONGEST, TOKENS_PER_WORD * entry.mean_words):
        tips.append(f"--text max_length={LONGEST}, as many texts are longer than {fit.text.max_length} tokens")
    if spec.recipe is not None:
        tips.append("the model's own recipe (leave out --recipe)")
    if len(spec.seeds) == 1:
        tips.append("--seeds 3, as one seed does not show what training again changes")
    tips.append(f"`moodbench tune --model {model} --dataset {dataset}`, which searches rank, alpha and learning rate")
    return tuple(tips)
