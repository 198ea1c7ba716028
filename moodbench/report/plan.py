"""Plan of a run on a class of device, per model: phases done, time, memory, cost, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from moodbench.config.schema import DeviceClass, NumberFormat
from moodbench.estimate import Placement, TrialEstimate
from moodbench.estimate.memory import gpu_share, options_for
from moodbench.hardware import GIB
from moodbench.report.formatting import MISSING, count, hours
from moodbench.spec.job import PhaseName

PHASES: tuple[PhaseName, ...] = ("fit", "evaluate", "measure")
SHOWN = ("seconds", "memory_bytes", "gpu_memory_bytes", "num_cpus", "num_observations")
"""Fields of a phase's estimate in the JSON."""
HEADINGS = ("Model", "Params", "Trials", "Done", "One fit", "All trials", "GPU GiB", "RAM GiB", "GPU share", "How")
LEFT = {"Model", "How"}


@dataclass(frozen=True)
class PlanRow:
    """One trial on one device class."""

    model: str
    dataset: str
    seed: int
    done: tuple[str, ...]
    """Phases that have a record."""
    absent: str
    """Files to fetch first; empty if none."""
    num_params: int | None
    estimate: TrialEstimate | None
    """None where sizes are unknown."""
    inference_dtype: NumberFormat = "fp32"
    """Number format of deployed weights that are not quantised."""

    @property
    def fits(self) -> bool:
        """Whether the device has enough memory for the trial."""
        return self.estimate is not None and not self.estimate.reason

    def seconds(self, *phases: PhaseName) -> float:
        """Return the estimated time of those of `phases` that are left."""
        assert self.estimate is not None
        return sum(self.estimate.phase(name).seconds for name in phases if name not in self.done)

    def as_json(self) -> dict[str, Any]:
        """Return plain values in base units."""
        values: dict[str, Any] = {
            "model": self.model,
            "dataset": self.dataset,
            "seed": self.seed,
            "done": list(self.done),
            "absent": self.absent or None,
            "num_params": self.num_params,
            "inference_dtype": self.inference_dtype,
        }
        if self.estimate is None:
            return values | {"fits": None}
        placement = self.estimate.placement
        phases = {name: asdict(self.estimate.phase(name)) for name in PHASES}
        return values | {
            "fits": self.fits,
            "reason": self.estimate.reason or None,
            "changes": list(placement.changes) if placement else [],
            "quantization": placement.load.quantization if placement else "none",
            "device_batch_size": placement.load.batch_size if placement else None,
            "spared_bytes": self.estimate.spared_bytes,
            "phases": {name: {key: values[key] for key in SHOWN} for name, values in phases.items()},
        }


@dataclass(frozen=True)
class ModelPlan:
    """The trials of one model on one device class."""

    name: str
    trials: Sequence[PlanRow]

    @property
    def estimates(self) -> list[tuple[PlanRow, TrialEstimate]]:
        """The trials of known size with their estimates, that with the largest fit first."""
        known = [(trial, trial.estimate) for trial in self.trials if trial.estimate is not None]
        return sorted(known, key=lambda each: -(each[1].fit.gpu_memory_bytes or each[1].fit.memory_bytes))

    @property
    def placements(self) -> list[Placement]:
        """How the fits that fit are placed on the device, without baselines."""
        return [estimate.placement for trial, estimate in self.estimates if trial.fits and estimate.placement]

    @property
    def refused(self) -> list[tuple[PlanRow, TrialEstimate]]:
        """The trials that do not fit, that with the largest fit first."""
        return [each for each in self.estimates if not each[0].fits]

    @property
    def changes(self) -> tuple[str, ...]:
        """Changes that make the model fit."""
        return max((placement.changes for placement in self.placements), key=len, default=())

    @property
    def options(self) -> str:
        """Options of `moodbench run` for these changes; empty without changes."""
        return max(map(options_for, self.placements), key=len, default="")

    @property
    def spared_bytes(self) -> int:
        """Most memory that scoring only the label words saves."""
        return max((estimate.spared_bytes for trial, estimate in self.estimates if trial.fits), default=0)

    def status(self) -> str:
        """Describe whether and how the model fits."""
        if len(self.refused) == len(self.estimates):
            return "does not fit"
        loads = [placement.load for placement in self.placements]
        formats = {load.quantization if load.quantization != "none" else load.weights_precision for load in loads}
        stored = [f"{', '.join(sorted(formats))} weights"] if formats else []
        deployed = {trial.inference_dtype for trial in self.trials}
        if formats and deployed != formats and not formats & {"nf4", "int8"}:
            stored.append(f"deployed in {', '.join(sorted(deployed))}")
        text = " + ".join(self.changes) or ", ".join(["fits", *stored])
        return f"{text}; {len(self.refused)} trials do not fit" if self.refused else text

    def cells(self, device: DeviceClass) -> list[str]:
        """Return the row of the table, under HEADINGS."""
        num_done = sum(len(trial.done) for trial in self.trials)
        done = f"{num_done}/{3 * len(self.trials)}"
        first = [self.name, count(self.trials[0].num_params), str(len(self.trials)), done]
        if not self.estimates:
            return [*first, *[MISSING] * 5, "sizes unknown: fetch it first"]
        largest = self.estimates[0][1].fit
        gpu = largest.gpu_memory_bytes
        fitting = [trial for trial, _ in self.estimates if trial.fits]
        longest = max(estimate.fit.seconds for _, estimate in self.estimates)
        return [
            *first,
            hours(longest) if fitting else MISSING,
            hours(sum(trial.seconds(*PHASES) for trial in fitting)) if fitting else MISSING,
            f"{gpu / GIB:.1f}" if gpu else MISSING,
            f"{largest.memory_bytes / GIB:.1f}",
            f"{gpu_share(gpu, device):.2f}" if gpu else MISSING,
            self.status(),
        ]


@dataclass(frozen=True)
class DevicePlan:
    """The plan for one device class."""

    name: str
    device: DeviceClass
    trials: Sequence[PlanRow]
    problem: str = ""
    """Why such devices cannot run the request at all; empty if they can."""

    @property
    def models(self) -> list[ModelPlan]:
        """The trials by model, in the order of the request."""
        found: dict[str, list[PlanRow]] = {}
        for trial in self.trials:
            found.setdefault(trial.model, []).append(trial)
        return [ModelPlan(name, trials) for name, trials in found.items()]

    @property
    def to_do(self) -> list[PlanRow]:
        """Trials of known size that fit and have phases left."""
        return [trial for trial in self.trials if trial.fits and len(trial.done) < len(PHASES)]

    @property
    def makespan_s(self) -> float:
        """Seconds on one such machine at best: fits side by side as its CPUs or GPU allow, measurements alone."""
        packed = sum(trial.seconds("fit", "evaluate") * self._share(trial) for trial in self.to_do)
        return packed + sum(trial.seconds("measure") for trial in self.to_do)

    @property
    def cost(self) -> float | None:
        """Price of `makespan_s`, None where no price is known."""
        price = self.device.price_per_hour
        return None if price is None else price * self.makespan_s / 3600

    def _share(self, trial: PlanRow) -> float:
        assert trial.estimate is not None
        if self.device.device == "cuda" and trial.estimate.fit.gpu_memory_bytes:
            return gpu_share(trial.estimate.fit.gpu_memory_bytes, self.device)
        return 1.0 if self.device.device == "mps" else 1 / self.device.num_cpus

    def as_json(self) -> dict[str, Any]:
        """Return plain values in base units."""
        return {
            "device_class": self.name,
            "description": self.device.description,
            "problem": self.problem or None,
            "makespan_s": self.makespan_s,
            "cost": self.cost,
            "trials": [trial.as_json() for trial in self.trials],
        }

    def title(self) -> str:
        """Return the line above the table."""
        gpu = f", {self.device.gpu_memory_gib:g} GiB on the GPU" if self.device.gpu_memory_gib else ""
        size = f"{self.device.num_cpus} cores, {self.device.memory_gib:.3g} GiB{gpu}"
        if self.problem:
            return f"{self.name}: {self.device.description} ({size}); cannot run this request"
        cost = "price unknown" if self.cost is None else f"cost {self.cost:,.2f}"
        to_do = f"{len(self.to_do)} trials to do, at best {hours(self.makespan_s)} on one such machine, {cost}"
        return f"{self.name}: {self.device.description} ({size}); {to_do}"

    def table(self) -> list[list[str]]:
        """Return one row of cells per model, under HEADINGS."""
        return [model.cells(self.device) for model in self.models]

    def sentences(self) -> list[str]:
        """Return which models fit, what scoring only label words saves, what does not fit and why, and options."""
        if self.problem:
            return [self.problem]
        models = self.models
        refused = [(model, model.refused) for model in models if model.refused]
        return [
            self._summary(models),
            *(
                f"{model.name}: only the label words of its vocabulary are scored; all of it, at every token, would "
                f"take {model.spared_bytes / GIB:.1f} GiB more"
                for model in models
                if model.spared_bytes
            ),
            *(
                f"Does not fit: {model.name} on {', '.join(sorted({trial.dataset for trial, _ in found}))}: "
                f"{found[0][1].reason}"
                for model, found in refused
            ),
            *(f"To run {model.name} there: {model.options}" for model in models if model.options),
        ]

    def _summary(self, models: Sequence[ModelPlan]) -> str:
        groups: Mapping[str, list[str]] = {"whole": [], "changed": [], "refused": [], "unknown": []}
        for model in models:
            fitting = "refused" if model.refused else "changed" if model.changes else "whole"
            groups[fitting if model.estimates else "unknown"].append(model.name)
        changed, refused, unknown = groups["changed"], groups["refused"], groups["unknown"]
        parts = [
            f"{len(groups['whole'])} of {len(models)} models fit as requested",
            f"{len(changed)} with changes ({', '.join(changed)})" if changed else "",
            f"{len(refused)} do not fit ({', '.join(refused)})" if refused else "",
            f"{len(unknown)} of unknown size ({', '.join(unknown)})" if unknown else "",
        ]
        return f"On {self.name} {', '.join(filter(None, parts))}."


def absent_sentence(trials: Iterable[PlanRow]) -> str:
    """Describe what the request must fetch first, and how; empty if nothing."""
    parts = sorted({part for trial in trials for part in trial.absent.split("; ") if part})
    names = [part.removeprefix("dataset ").removeprefix("model ") for part in parts]
    if not names:
        return ""
    absent = ", ".join(names)
    return f"Not on this machine yet: {absent}. `run` fetches them, or `moodbench catalogue fetch` beforehand."


def basis(trials: Iterable[PlanRow]) -> str:
    """Describe what the estimated times are based on."""
    phases = [trial.estimate.phase(name) for trial in trials if trial.estimate for name in PHASES]
    corrected = sum(phase.num_observations > 0 for phase in phases)
    if not corrected:
        return (
            "Times come from a roofline model that no run in this store has corrected; "
            "they may be off several times, more where other work runs beside."
        )
    return f"Times of {corrected} of {len(phases)} phases are corrected by what such phases took in this store."
