"""Comparison of models on the same test examples: paired differences, disagreements, and slices of the test set.

A model is named as on the leaderboard (`bert nf4`, `bert #1a2b3c`), or as NAME@SEED for one of its fits (`bert@1`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy  # its parts load when first used; scipy.stats alone takes a second

from moodbench.analysis.calibration import Calibration, calibration_of
from moodbench.analysis.leaderboard import ENTRY, SeedPriors, entry_names, entry_priors, plain_names
from moodbench.analysis.results import PredictedClasses
from moodbench.analysis.trials import TRACK
from moodbench.errors import UnknownNameError, UsageError
from moodbench.statistics.paired import ROPE, F1Difference, PairedDifference, paired_accuracy, paired_f1
from moodbench.statistics.seeds import DETERMINISTIC, SeedPrior
from moodbench.store import Store
from moodbench.training.outcome import NOT_ENOUGH, TrainingVerdict, worst_training_verdict

OF_FITS = ["fit_id", "dataset_revision", "num_train", "method", "quantization", "training_verdict"]
"""Columns of the records of fits that a comparison needs."""


@dataclass(frozen=True)
class Comparison:
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
) -> list[Comparison]:
    """Compare model `a` with model `b` on each track, paired by example_id over the seeds that both have.

    A model is a name on the leaderboard or in the catalogue, with all its seeds, or NAME@SEED for one of its fits. If
    `config_ids` are given, only recipes with these ids count.

    Raises: UnknownNameError for a name or seed without evaluations; UsageError where a name means several recipes of a
    track, and where the two share no track or are the same.
    """
    fits, evaluations = store.sound_records("fits")[0], store.sound_records("evaluations")[0]
    trials = named_trials(evaluations.merge(fits[OF_FITS], on="fit_id"))
    priors = entry_priors(trials.sort_values("ended_at"))
    if config_ids is not None:
        trials = named_trials(trials[trials["config_id"].isin(config_ids)])
    first, second = (parse_model(name, trials, store.uri) for name in (a, b))
    if a == b:
        raise UsageError(f"{a} is compared with itself; give two models, or two seeds of one such as {a}@0 {a}@1")
    if (first.seed is None) != (second.seed is None):
        raise UsageError(f"{a} and {b}: give a seed (MODEL@SEED) for both or for none")
    if dataset is not None:
        trials = trials[trials["dataset"] == dataset]
    found = []
    for key, track in trials.groupby(TRACK, sort=True):
        if not all(len(matching(track, each.label)) for each in (first, second)):
            continue
        name = f"{key[0]} ({key[2]:,} training texts)"
        sides = [one_recipe(track, each.label, name).set_index("seed") for each in (first, second)]
        if _recipe(sides[0]) == _recipe(sides[1]) and first.seed == second.seed:
            raise UsageError(f"{a} and {b} are one recipe on {name}; give two, or two seeds of it such as {a}@0 {a}@1")
        seeds = _common_seeds(sides, first.seed, second.seed)
        if seeds[0]:
            chosen = [side.loc[own] for side, own in zip(sides, seeds, strict=True)]
            found.append(_compare(store, fits, evaluations, (a, b), name, chosen, rope, priors))
    if not found:
        raise UsageError(f"{a} and {b} share no dataset and seed in {store.uri}; run both on the same, then compare")
    return found


def _recipe(side: pd.DataFrame) -> str:
    return str(side["config_id"].iloc[0])


def _common_seeds(sides: Sequence[pd.DataFrame], a: int | None, b: int | None) -> tuple[list[int], list[int]]:
    """Return the paired seeds of the two sides: the requested ones if both exist, else those that both have."""
    known = [set(side.index) for side in sides]
    if a is None or b is None:
        common = sorted(known[0] & known[1])
        return common, common
    return ([a], [b]) if a in known[0] and b in known[1] else ([], [])


def _compare(
    store: Store,
    fits: pd.DataFrame,
    evaluations: pd.DataFrame,
    names: tuple[str, str],
    track: str,
    sides: Sequence[pd.DataFrame],
    rope: float,
    priors: SeedPriors,
) -> Comparison:
    """Compare two models by their evaluations on one track, in the rows of `sides`, which are paired."""
    first = sides[0].iloc[0]
    ids = [side["evaluation_id"].tolist() for side in sides]
    labels, classes = _paired_classes(PredictedClasses(store, evaluations), ids, names)
    num_classes = int(max(labels.max(), *(table.to_numpy().max() for table in classes))) + 1
    right = [table.to_numpy() == labels.to_numpy()[:, None] for table in classes]
    a, b = (table.to_numpy() if table.shape[1] > 1 else table.to_numpy()[:, 0] for table in classes)
    return Comparison(
        track=track,
        difference=paired_accuracy(
            right[0],
            right[1],
            rope=rope,
            prior=_prior_of_difference(right, [side.reset_index().iloc[0] for side in sides], priors),
        ),
        f1=paired_f1(labels, a, b, num_classes),
        flipped=_flipped(store.examples(str(first["dataset"]), str(first["dataset_revision"])), labels, classes),
        calibrations=tuple(calibration_of(store, name, own) for name, own in zip(names, ids, strict=True)),
        class_names=class_names(fits, first["fit_id"], num_classes),
        same_recipe=_recipe(sides[0]) == _recipe(sides[1]),
        training_verdicts=(
            worst_training_verdict(sides[0]["training_verdict"]),
            worst_training_verdict(sides[1]["training_verdict"]),
        ),
    )


def _prior_of_difference(
    right: Sequence[npt.NDArray[np.bool_]], trials: Sequence[pd.Series[Any]], priors: SeedPriors
) -> SeedPrior:
    """Return what comparable entries say about the variance between seeds of the difference of two models.

    `right` are the outcomes `(items, seeds)` of the two, `trials` one trial or leaderboard row of each.
    """
    a, b = (
        priors[tuple(trial[ENTRY])] if (own != own[:, :1]).any() else DETERMINISTIC
        for own, trial in zip(right, trials, strict=True)
    )
    return a.of_difference(b)


def _paired_classes(
    predicted: PredictedClasses, ids: Sequence[list[str]], names: tuple[str, str]
) -> tuple[pd.Series[int], list[pd.DataFrame]]:
    """Return the labels, and the predicted classes of each of two models, one column per evaluation.

    Raises: StoreError for an evaluation without predictions; UsageError if the two were tested on different examples.
    """
    tables = [predicted.complete(own) for own in ids]
    if list(tables[0].index) != list(tables[1].index):
        raise UsageError(f"{names[0]} and {names[1]} were tested on different texts; they cannot be paired")
    return tables[0]["label"], [table[own] for table, own in zip(tables, ids, strict=True)]


def class_names(fits: pd.DataFrame, fit_id: str, num_classes: int) -> tuple[str, ...]:
    """Return the class names in the spec of the fit `fit_id`, most negative first; class numbers without names."""
    spec = fits.loc[fits["fit_id"] == fit_id, "spec"].iloc[0]
    try:
        return tuple(json.loads(spec)["dataset"]["labels"])
    except (TypeError, ValueError, KeyError):
        return tuple(map(str, range(num_classes)))


def _flipped(texts: pd.DataFrame, labels: pd.Series[int], classes: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the examples that exactly one model labels correctly, with their texts where the store holds them."""
    rows = pd.DataFrame({"label": labels, "a": classes[0].iloc[:, 0], "b": classes[1].iloc[:, 0]})
    right_a, right_b = rows["a"] == rows["label"], rows["b"] == rows["label"]
    rows = rows.assign(right=right_a.map({True: "a", False: "b"}))[right_a != right_b]
    examples = texts.drop_duplicates("example_id").set_index("example_id")
    return rows.join(examples[["text", "private"]], how="left")


def evaluations_by_seed(row: pd.Series[Any], evaluations: pd.DataFrame) -> pd.Series[str]:
    """Return the evaluation ids of one leaderboard row, indexed by seed."""
    own = evaluations[evaluations["evaluation_id"].isin(row["evaluation_ids"])]
    found: pd.Series[str] = own.set_index("seed")["evaluation_id"].sort_index()
    return found


def paired_differences(
    store: Store, rows: pd.DataFrame, evaluations: pd.DataFrame
) -> list[tuple[str, str, PairedDifference]]:
    """Return every pair of `rows` of one track with its difference in accuracy over common seeds, the higher row first.

    Raises: UsageError without a common seed, or where the two were tested on different examples.
    """
    predicted = PredictedClasses(store, evaluations)
    trials = evaluations.merge(store.records("fits")[OF_FITS], on="fit_id")
    priors = entry_priors(trials.sort_values("ended_at"))
    found = []
    for (_, a), (_, b) in combinations(rows.iterrows(), 2):
        names, sides = (str(a["name"]), str(b["name"])), [evaluations_by_seed(row, evaluations) for row in (a, b)]
        seeds = sorted(set(sides[0].index) & set(sides[1].index))
        if not seeds:
            raise UsageError(f"{names[0]} and {names[1]} share no seed, so that they cannot be paired")
        labels, classes = _paired_classes(predicted, [side.loc[seeds].tolist() for side in sides], names)
        right = [table.eq(labels, axis=0).to_numpy() for table in classes]
        prior = _prior_of_difference(right, (a, b), priors)
        found.append((*names, paired_accuracy(right[0], right[1], prior=prior)))
    return found


def predictions_by_model(store: Store, rows: pd.DataFrame, evaluations: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the predictions of each model, by name, for the first seed that all `rows` have.

    Frames are indexed by example id; `stated` is the probability of the predicted label, `right` whether it is correct.
    """
    sides = {str(row["name"]): evaluations_by_seed(row, evaluations) for _, row in rows.iterrows()}
    common = sorted(set.intersection(*(set(side.index) for side in sides.values()))) if sides else []
    if not common:
        return {}
    found = {}
    for name, side in sides.items():
        frame = store.predictions([side.loc[common[0]]]).set_index("example_id")
        logits = np.stack(frame["logits"].to_list()).astype(float)
        stated = scipy.special.softmax(logits, axis=1).max(axis=1)
        found[name] = frame.assign(stated=stated, right=frame["label"] == frame["predicted"])
    return found


def disagreements(predictions: dict[str, pd.DataFrame], examples: pd.DataFrame, most: int = 20) -> pd.DataFrame:
    """Return at most `most` examples on which the predicted labels differ, the most confident contradictions first.

    Columns: text, label, private, and for each model NAME with its label and `NAME stated` with its probability.
    """
    first = next(iter(predictions.values()))
    wide = pd.DataFrame({name: frame["predicted"] for name, frame in predictions.items()}).dropna()
    stated = pd.DataFrame({f"{name} stated": frame["stated"] for name, frame in predictions.items()}).loc[wide.index]
    differ = wide[wide.nunique(axis=1) > 1].index
    order = stated.loc[differ].min(axis=1).sort_values(ascending=False, kind="stable").index[:most]
    texts = examples.set_index("example_id")[["text", "private"]]
    return (
        first.loc[order, ["label"]]
        .join(wide.loc[order].astype(int))
        .join(stated.loc[order])
        .join(texts[~texts.index.duplicated()], how="left")
    )


def accuracy_by_slice(
    predictions: dict[str, pd.DataFrame], examples: pd.DataFrame, labels: Sequence[str]
) -> pd.DataFrame:
    """Return the accuracy of each model on slices of the test set: all examples, each label, thirds by number of words.

    One row per slice (`part`) with `num_texts` and a column per model.
    """
    first = next(iter(predictions.values()))
    texts = examples.set_index("example_id")["text"]
    words = texts[~texts.index.duplicated()].reindex(first.index).fillna("").map(lambda text: len(str(text).split()))
    parts: dict[str, pd.Series[bool]] = {"all test texts": pd.Series(True, index=first.index)}
    for number, label in enumerate(labels):
        parts[f"label {label}"] = first["label"] == number
    ends = [int(words.quantile(q)) for q in (1 / 3, 2 / 3)]
    parts[f"up to {ends[0]} words"] = words <= ends[0]
    parts[f"{ends[0] + 1} to {ends[1]} words"] = (words > ends[0]) & (words <= ends[1])
    parts[f"over {ends[1]} words"] = words > ends[1]
    rows = []
    for part, mask in parts.items():
        if mask.any():
            accuracy = {name: frame["right"].reindex(first.index)[mask].mean() for name, frame in predictions.items()}
            rows.append({"part": part, "num_texts": int(mask.sum()), **accuracy})
    return pd.DataFrame(rows)


def confusion(frame: pd.DataFrame, num_labels: int) -> pd.DataFrame:
    """Return the confusion matrix: counts of true labels (rows) by predicted labels (columns)."""
    table = pd.crosstab(frame["label"], frame["predicted"])
    return table.reindex(index=range(num_labels), columns=range(num_labels), fill_value=0)


class NamedModel(NamedTuple):
    """A model as the user named it: NAME, or NAME@SEED for one of its fits."""

    label: str
    seed: int | None


def named_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """Add `name`, as on the leaderboard, and `plain`, the name without the recipe id, to `trials`.

    `trials` needs the columns of TRACK, model, quantization and config_id.
    """
    quantised = trials.assign(quantization=trials["quantization"].fillna("none"))
    return quantised.assign(name=entry_names(quantised), plain=plain_names(quantised))


def parse_model(text: str, trials: pd.DataFrame, uri: str) -> NamedModel:
    """Return the model that `text` names in `trials`, which come from `named_trials`.

    Raises: UnknownNameError, with the nearest name, for an unknown name or seed.
    """
    if len(matching(trials, text)):
        return NamedModel(text, None)
    label, at, seed = text.rpartition("@")
    rows = matching(trials, label) if at else trials.iloc[:0]
    if rows.empty:
        raise UnknownNameError(f"model in {uri}:", label if at else text, set(trials["model"]) | set(trials["name"]))
    seeds = sorted(set(rows["seed"]))
    if seed not in map(str, seeds):
        raise UnknownNameError(f"seed of {label} in {uri}:", seed, [str(s) for s in seeds])
    return NamedModel(label, int(seed))


def one_recipe(track: pd.DataFrame, label: str, track_name: str) -> pd.DataFrame:
    """Return the rows of one track that `label` means: the newest one per seed; empty where there are none.

    Raises: UsageError, with their names, where it means several recipes.
    """
    rows = matching(track, label)
    if rows["config_id"].nunique() > 1:
        names = ", ".join(repr(name) for name in sorted(set(rows["name"])))
        raise UsageError(f"{label!r} names several recipes on {track_name}: {names}; give one of these names in quotes")
    found: pd.DataFrame = rows.sort_values("ended_at").groupby("seed").tail(1)
    return found


def matching(trials: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return the rows of each track that `label` means.

    They are those with that name on the leaderboard. If a track has none, they are those of that model, of that name
    without a recipe id, or of the recipes whose id starts with what follows ` #`.
    """
    exact = trials["name"] == label
    plain, mark, start = label.rpartition(" #")
    prefixed = (trials["plain"] == plain) & trials["config_id"].str.startswith(start) if mark and start else False
    others = (trials["model"] == label) | (trials["plain"] == label) | prefixed
    has_exact = exact.groupby([trials[c] for c in TRACK]).transform("any").astype(bool)
    return trials[exact | (others & ~has_exact)]
