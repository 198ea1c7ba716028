"""Plan the phases that remain, in order, from a resolved spec and the ids already stored: a pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from moodbench.spec import FitSpec, TrialSpec
from moodbench.spec.fit_schedule import TRAINING_COST, num_trained_on, steps_of
from moodbench.spec.job import PhaseName

PHASES: tuple[PhaseName, ...] = ("fit", "evaluate", "measure")
"""In order: each phase needs the output of those before it."""


@dataclass(frozen=True)
class PlannedTrial:
    """A trial and its phases that have no record yet."""

    trial: TrialSpec
    missing: tuple[PhaseName, ...]


@dataclass(frozen=True)
class Plan:
    """The trials that remain, longest fits first, and the number of phases that are already done."""

    trials: tuple[PlannedTrial, ...]
    num_phases_done: int
    requested: tuple[TrialSpec, ...] = ()
    """All trials of the request in its order, those that are complete too."""

    @property
    def num_phases_missing(self) -> int:
        """Number of phases without a record."""
        return sum(len(t.missing) for t in self.trials)


def make_plan(trials: Sequence[TrialSpec], stored: Mapping[str, Set[str]], until: PhaseName = "measure") -> Plan:
    """Return the plan for `trials` up to the phase `until`, given the `stored` ids of each kind of record.

    The kinds are fits, evaluations and measurements.
    """
    wanted = PHASES[: PHASES.index(until) + 1]
    planned, done = [], 0
    for trial in trials:
        has: dict[PhaseName, bool] = {
            "fit": trial.fit.fit_id in stored["fits"],
            "evaluate": trial.evaluate.evaluation_id in stored["evaluations"],
            "measure": trial.measure.measurement_id in stored["measurements"],
        }
        missing = tuple(name for name in wanted if not has[name])
        done += len(wanted) - len(missing)
        if missing:
            planned.append(PlannedTrial(trial, missing))
    planned.sort(key=lambda p: -relative_work(p.trial.fit))
    return Plan(tuple(planned), done, tuple(trials))


def relative_work(fit: FitSpec) -> float:
    """Return the cost of a fit relative to others, in arbitrary units, for ordering only.

    The cost is layers x forward passes over the training texts, where an epoch of training counts as TRAINING_COST
    passes. A transformer whose depth the spec does not limit counts as 12 layers. Where the spec does not limit the
    training texts, limits on steps are ignored, because the number of epochs they amount to is unknown.
    """
    if fit.model.method == "baseline":
        return 0.0
    layers = fit.model.num_hidden_layers or 12
    if fit.train is None:
        return float(layers)
    num_train = fit.dataset.max_train_examples
    epochs = steps_of(fit.train, num_trained_on(fit, num_train)).epochs if num_train else fit.train.epochs
    return layers * TRAINING_COST * epochs
