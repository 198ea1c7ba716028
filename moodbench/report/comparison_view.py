"""Two models of a store compared on every dataset that both have, with the verdict in words."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from moodbench.analysis.leaderboard import TRACK
from moodbench.errors import StoreError, UsageError
from moodbench.report.calibration_view import Calibration, calibration_of
from moodbench.report.entry_names import meant, named_trials, one_recipe, parse
from moodbench.report.training_notes import recipes_words
from moodbench.statistics.paired import ROPE, F1Difference, PairedDifference, paired_accuracy, paired_f1
from moodbench.store import Store
from moodbench.training.verdict import NOT_ENOUGH, TrainingVerdict, worst_training_verdict

PAIR_HEADINGS = (
    "Pair",
    "Difference, points",
    "95 % interval",
    "Only first right",
    "Only second right",
    "p",
    "Found from, points (80 % power)",
    "Verdict",
)

_VERDICTS = {
    "better": "separated",
    "worse": "separated",
    "equivalent": "equivalent within {margin}",
    "undecided": "not separated",
}


@dataclass(frozen=True)
class Compared:
    """Comparison of two models on one track, a dataset at one training size."""

    track: str
    difference: PairedDifference
    """Difference in accuracy, the first model minus the second."""
    f1: F1Difference
    flipped: pd.DataFrame
    """Examples of the first common seed that exactly one model labels correctly, indexed by example_id.

    Columns: label, a, b (predicted classes), right ("a" or "b"), text and private (null where the store does not hold
    the text).
    """
    calibrations: tuple[Calibration, ...]
    """Calibration of each model."""
    class_names: tuple[str, ...]
    """Names of the classes of `flipped`, by class number."""
    same_recipe: bool
    """Whether the two are fits of one recipe with different seeds; then no winner is named."""
    training_verdicts: tuple[TrainingVerdict | None, TrainingVerdict | None] = (None, None)
    """Worst verdict on the compared fits of each model; None where unknown or nothing was trained by gradients."""

    def undertrained(self, a: str, b: str) -> list[str]:
        """Return which of the two names belong to a model that was not trained enough.

        If there are any, the difference is one of recipes, not of models.
        """
        return [name for name, verdict in zip((a, b), self.training_verdicts, strict=True) if verdict in NOT_ENOUGH]

    def to_record(self) -> dict[str, Any]:
        """Return plain values in base units, without the examples.

        Two fits of one recipe have the verdict `same recipe`: there is no winner.
        """
        return {
            "track": self.track,
            "same_recipe": self.same_recipe,
            "training_verdicts": dict(zip("ab", self.training_verdicts, strict=True)),
            "difference_of": "recipes" if self.undertrained("a", "b") else "models",
            **asdict(self.difference),
            **({"verdict": "same recipe"} if self.same_recipe else {}),
            "f1": asdict(self.f1),
            "calibration": [each.to_record() for each in self.calibrations],
            "num_flipped_only_a": int((self.flipped["right"] == "a").sum()),
            "num_flipped_only_b": int((self.flipped["right"] == "b").sum()),
        }


def compare_models(
    store: Store,
    a: str,
    b: str,
    dataset: str | None,
    rope: float = ROPE,
    *,
    config_ids: Collection[str] | None = None,
) -> list[Compared]:
    """Compare model `a` with model `b` on each track, paired by example_id over the seeds that both have.

    A model is a name on the leaderboard or in the catalogue, with all its seeds, or NAME@SEED for one of its fits. If
    `config_ids` are given, only recipes with these ids count.

    Raises: UnknownNameError for a name or seed without evaluations; UsageError where a name means several recipes of a
    track, and where the two share no track or are the same.
    """
    fits, evaluations = store.records("fits"), store.records("evaluations")
    kept = ["fit_id", "dataset_revision", "num_train", "quantization", "training_verdict"]
    trials = named_trials(evaluations.merge(fits[kept], on="fit_id"))
    if config_ids is not None:
        trials = named_trials(trials[trials["config_id"].isin(config_ids)])
    first, second = (parse(name, trials, store.uri) for name in (a, b))
    if a == b:
        raise UsageError(f"{a} is compared with itself; give two models, or two seeds of one such as {a}@0 {a}@1")
    if (first.seed is None) != (second.seed is None):
        raise UsageError(f"{a} and {b}: give a seed (MODEL@SEED) for both or for none")
    if dataset is not None:
        trials = trials[trials["dataset"] == dataset]
    found = []
    for key, track in trials.groupby(TRACK, sort=True):
        if not all(len(meant(track, each.label)) for each in (first, second)):
            continue
        where = f"{key[0]} ({key[2]:,} training texts)"
        sides = [one_recipe(track, each.label, where) for each in (first, second)]
        same_recipe = sides[0]["config_id"].iloc[0] == sides[1]["config_id"].iloc[0]
        if same_recipe and first.seed == second.seed:
            raise UsageError(f"{a} and {b} are one recipe on {where}; give two, or two seeds of it such as {a}@0 {a}@1")
        if first.seed is None or second.seed is None:
            pairs = [(s, s) for s in sorted(set(sides[0]["seed"]) & set(sides[1]["seed"]))]
        else:
            held = first.seed in set(sides[0]["seed"]) and second.seed in set(sides[1]["seed"])
            pairs = [(first.seed, second.seed)] if held else []
        if not pairs:
            continue
        chosen = [
            side.set_index("seed")["evaluation_id"].loc[[pair[i] for pair in pairs]].tolist()
            for i, side in enumerate(sides)
        ]
        answers = [predicted_classes(store, ids) for ids in chosen]
        if list(answers[0].index) != list(answers[1].index):
            raise UsageError(f"{a} and {b} were tested on different texts of {key[0]}; they cannot be paired")
        labels = answers[0]["label"].to_numpy()
        said = [frame[ids].to_numpy() for frame, ids in zip(answers, chosen, strict=True)]
        right = [table == labels[:, None] for table in said]
        num_classes = int(max(labels.max(), *(table.max() for table in said))) + 1
        flat = [table if table.shape[1] > 1 else table[:, 0] for table in said]
        texts = store.examples(str(key[0]), str(key[1]))
        found.append(
            Compared(
                track=where,
                difference=paired_accuracy(right[0], right[1], rope=rope),
                f1=paired_f1(labels, flat[0], flat[1], num_classes),
                flipped=_flipped(texts, answers[0].index, labels, said[0][:, 0], said[1][:, 0]),
                calibrations=tuple(calibration_of(store, name, ids) for name, ids in zip((a, b), chosen, strict=True)),
                class_names=class_names(fits, sides[0]["fit_id"].iloc[0], num_classes),
                same_recipe=bool(same_recipe),
                training_verdicts=(_verdict_of(sides[0], chosen[0]), _verdict_of(sides[1], chosen[1])),
            )
        )
    if not found:
        raise UsageError(f"{a} and {b} share no dataset and seed in {store.uri}; run both on the same, then compare")
    return found


def _verdict_of(side: pd.DataFrame, evaluation_ids: Collection[str]) -> TrainingVerdict | None:
    """Return the worst training verdict of the fits of these evaluations."""
    return worst_training_verdict(side.loc[side["evaluation_id"].isin(evaluation_ids), "training_verdict"])


def class_names(fits: pd.DataFrame, fit_id: str, num_classes: int) -> tuple[str, ...]:
    """Return the class names in the spec of the fit `fit_id`, most negative first; class numbers without names."""
    spec = fits.loc[fits["fit_id"] == fit_id, "spec"].iloc[0]
    try:
        return tuple(json.loads(spec)["dataset"]["labels"])
    except (TypeError, ValueError, KeyError):
        return tuple(map(str, range(num_classes)))


def sentence(
    a: str,
    b: str,
    track: str,
    difference: PairedDifference,
    f1: F1Difference | None = None,
    *,
    same_recipe: bool = False,
    undertrained: Sequence[str] = (),
) -> str:
    """Return the verdict in words: which is better and by how much, equivalence, or what would decide it.

    If one of the two is in `undertrained`, the difference is called one of recipes, and no model is called better.
    """
    points = f"{100 * abs(difference.delta):.1f} points of accuracy"
    low, high = 100 * difference.low, 100 * difference.high
    over = ", counted once for each seed," if difference.estimand == "recipe" else ""
    evidence = (
        f"{100 * difference.level:.0f} % interval of {a} minus {b} {low:+.1f} to {high:+.1f}, "
        f"of the {difference.estimand}s; "
        f"of {difference.num_items:,} texts{over} only {a} is right on {difference.only_a:,}, "
        f"only {b} on {difference.only_b:,}; p = {difference.p_value:.2g}"
    )
    if difference.detectable > 0:
        evidence += f"; found with 80 % power: differences from {100 * difference.detectable:.1f} points on"
    if f1 is not None:
        ends = f"{100 * f1.low:+.1f} to {100 * f1.high:+.1f}"
        evidence += f"; macro-F1 {100 * f1.delta:+.1f}, {ends}, p = {f1.p_value:.2g}"
    margin = _margin(difference.rope)
    if same_recipe:
        verdict = (
            f"{a} and {b} are trainings of one recipe: no winner is named; "
            f"{100 * difference.delta:+.1f} points of accuracy is what training again changed"
        )
    elif undertrained and difference.verdict in ("better", "worse"):
        higher, lower = (a, b) if difference.verdict == "better" else (b, a)
        verdict = f"{higher} as trained scores {points} above {lower} as trained; {recipes_words(undertrained)}"
    elif difference.verdict == "better":
        verdict = f"{a} is better than {b} by {points}"
    elif difference.verdict == "worse":
        verdict = f"{b} is better than {a} by {points}"
    elif difference.verdict == "equivalent":
        verdict = f"{a} and {b} are equivalent within {margin}"
    else:
        verdict = f"{a} and {b} are not separated, nor shown equivalent within {margin}: undecided, {_cure(difference)}"
    if undertrained and not same_recipe and difference.verdict not in ("better", "worse"):
        verdict += f"; {recipes_words(undertrained)}"
    return f"{track}: {verdict} ({evidence})."


def pair_cells(
    pairs: Sequence[tuple[str, str, PairedDifference]], undertrained: Collection[str] = ()
) -> list[list[str]]:
    """Return one row of cells per pair (a, b, a minus b in accuracy), under `PAIR_HEADINGS`.

    A pair with a model in `undertrained` is marked as a difference of recipes.
    """
    return [
        [
            f"{a} − {b}",
            f"{100 * d.delta:+.1f}",
            f"{100 * d.low:+.1f} to {100 * d.high:+.1f}",
            f"{d.only_a:,}",
            f"{d.only_b:,}",
            f"{d.p_value:.2g}",
            f"{100 * d.detectable:.1f}" if d.detectable > 0 else "—",
            _VERDICTS[d.verdict].format(margin=_margin(d.rope))
            + (" (recipes, not models)" if {a, b} & set(undertrained) else ""),
        ]
        for a, b, d in pairs
    ]


def _margin(rope: float) -> str:
    return f"{100 * rope:g} point{'' if rope == 0.01 else 's'}"


def _cure(difference: PairedDifference) -> str:
    """Describe what would decide an undecided pair."""
    needed = difference.num_items_needed
    if needed is None:
        return "more seeds are needed, not more reviews"
    if difference.needed_at_most:
        return (
            "and they differ on so few reviews that only a limit is known of how many would settle it: "
            f"at most about {needed:,}"
        )
    return f"about {needed:,} reviews would settle it if the difference stays"


def _flipped(texts: pd.DataFrame, ids: pd.Index[str], labels: Any, said_a: Any, said_b: Any) -> pd.DataFrame:
    """Return the examples that exactly one model labels correctly, with their texts where the store holds them."""
    rows = pd.DataFrame({"label": labels, "a": said_a, "b": said_b}, index=ids)
    right_a, right_b = rows["a"] == rows["label"], rows["b"] == rows["label"]
    rows = rows.assign(right=right_a.map({True: "a", False: "b"}))[right_a != right_b]
    examples = texts.drop_duplicates("example_id").set_index("example_id")
    return rows.join(examples[["text", "private"]], how="left")


def predicted_classes(store: Store, evaluation_ids: list[str]) -> pd.DataFrame:
    """Return the class that each evaluation predicted for each example, and the example's `label`.

    Rows are indexed by example id; columns are the evaluations in the order given.

    Raises: StoreError for an evaluation without predictions.
    """
    rows = store.predictions(evaluation_ids)
    absent = sorted(set(evaluation_ids) - set(rows["evaluation_id"]))
    if absent:
        raise StoreError(
            f"{store.uri}: evaluation {absent[0]} has no predictions, so that it cannot be paired with another"
        )
    wide = rows.pivot(index="example_id", columns="evaluation_id", values="predicted").loc[:, evaluation_ids]
    labels = rows.drop_duplicates("example_id").set_index("example_id")["label"]
    return wide.assign(label=labels)


def correctness(store: Store, evaluation_ids: list[str]) -> pd.DataFrame:
    """Return whether each evaluation labelled each example correctly.

    Rows are indexed by example id; columns are the evaluations in the order given.
    """
    wide = predicted_classes(store, evaluation_ids)
    return wide[evaluation_ids].eq(wide["label"], axis=0)
