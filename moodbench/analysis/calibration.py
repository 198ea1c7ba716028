"""Calibration of the entries of a store, from their predictions on test and validation examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from moodbench.metrics import Predictions
from moodbench.statistics.calibration import (
    Decomposition,
    EceNull,
    ReliabilityCurve,
    Scores,
    Temperature,
    corp,
    ece_null,
    fit_temperature,
    reliability_curve,
    scores,
    tempered,
)
from moodbench.store import Store

DRAWING_SEED = 20210217
NO_VALIDATION = (
    "no temperature: evaluated before predictions on validation texts were stored; run into a new store to have them"
)


@dataclass(frozen=True)
class SeedCalibration:
    """Calibration of one evaluation: the weights of one seed on the test examples."""

    before: Scores
    parts: Decomposition
    null: EceNull
    temperature: Temperature | None
    """None where the store holds no validation predictions."""
    after: Scores | None
    """Scores on the test examples after temperature scaling."""


@dataclass(frozen=True)
class Calibration:
    """Calibration of one entry: its seeds, and the reliability diagram of the first."""

    name: str
    seeds: tuple[SeedCalibration, ...]
    curve: ReliabilityCurve

    @property
    def note(self) -> str | None:
        """Reason why there is no temperature, None where there is one."""
        return None if all(seed.temperature for seed in self.seeds) else NO_VALIDATION

    def mean(self, score: Literal["nll", "brier", "ece"]) -> float:
        """Return the mean over seeds of a score without temperature."""
        return float(np.mean([getattr(seed.before, score) for seed in self.seeds]))

    @property
    def num_above_null(self) -> int:
        """Number of seeds whose ECE is significantly above that of a calibrated model."""
        return sum(seed.null.p_value <= 0.05 for seed in self.seeds)

    def to_record(self) -> dict[str, Any]:
        """Return plain values in base units: the mean over seeds, and each seed; without the diagram."""
        return {
            "name": self.name,
            "nll": self.mean("nll"),
            "brier": self.mean("brier"),
            "ece": self.mean("ece"),
            "num_seeds": len(self.seeds),
            "num_seeds_above_null": self.num_above_null,
            "seeds": [
                {
                    **seed.before._asdict(),
                    **{f"brier_{k}": v for k, v in seed.parts._asdict().items() if k != "brier"},
                    "ece_null": {k: v for k, v in seed.null._asdict().items() if k != "ece"},
                    "temperature": seed.temperature and seed.temperature._asdict(),
                    "after": seed.after and seed.after._asdict(),
                }
                for seed in self.seeds
            ],
            "note": self.note,
        }


def calibrations(store: Store, rows: pd.DataFrame) -> list[Calibration]:
    """Return the calibration of each of `rows`, all from one track of the leaderboard."""
    return [calibration_of(store, str(row["name"]), row["evaluation_ids"]) for _, row in rows.iterrows()]


def calibration_of(store: Store, name: str, evaluation_ids: Sequence[str]) -> Calibration:
    """Return the calibration of an entry from its evaluations, one per seed."""
    return calibration(name, evaluation_ids, store.predictions(evaluation_ids), store.validation(evaluation_ids))


def calibration(
    name: str, evaluation_ids: Sequence[str], predictions: pd.DataFrame, validation: pd.DataFrame
) -> Calibration:
    """Compute the calibration from the predictions on test and validation examples.

    Both frames are long, with the rows of all evaluations. The null distributions and the band are drawn with a fixed
    random seed, so the same store always gives the same values.
    """
    seeds = []
    for evaluation_id in evaluation_ids:
        test = predictions_of(predictions, evaluation_id)
        held_out = validation[validation["evaluation_id"] == evaluation_id]
        temperature = fit_temperature(predictions_of(held_out, evaluation_id)) if len(held_out) else None
        after = None if temperature is None else scores(tempered(test, temperature.value))
        null = ece_null(test, np.random.default_rng(DRAWING_SEED))
        seeds.append(SeedCalibration(scores(test), corp(test), null, temperature, after))
    first = predictions_of(predictions, evaluation_ids[0])
    return Calibration(name, tuple(seeds), reliability_curve(first, np.random.default_rng(DRAWING_SEED)))


def predictions_of(predictions: pd.DataFrame, evaluation_id: str) -> Predictions:
    """Return the predictions of one evaluation in order of example_id, without failed ones."""
    rows = predictions[
        (predictions["evaluation_id"] == evaluation_id) & ~predictions["failed"].astype(bool)
    ].sort_values("example_id")
    return Predictions.checked(np.stack(rows["logits"].to_list()), rows["label"].to_numpy())
