"""Plan of a run, as tables per device class and model: phases done, time, memory, and what does not fit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moodbench.config.schema import DeviceClass
from moodbench.estimate import TrialEstimate
from moodbench.estimate.placement import GIB, gpu_share, options_for
from moodbench.report.formatting import MISSING, count, hours, missing

HEADINGS = ("Model", "Params", "Trials", "Done", "One fit", "All trials", "GPU GiB", "RAM GiB", "GPU share", "How")
LEFT = {"Model", "How"}


@dataclass(frozen=True)
class PlannedRow:
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

    @property
    def packed_s(self) -> float:
        """Seconds of the remaining phases that run beside others."""
        assert self.estimate is not None
        return sum(self.estimate.phase(name).seconds for name in ("fit", "evaluate") if name not in self.done)

    @property
    def alone_s(self) -> float:
        """Seconds of the remaining measurement, which runs alone."""
        assert self.estimate is not None
        return 0.0 if "measure" in self.done else self.estimate.measure.seconds

    @property
    def fits(self) -> bool:
        """Whether the device has enough memory for the trial."""
        return self.estimate is not None and not self.estimate.reason

    def as_json(self) -> dict[str, Any]:
        """Return plain values in base units."""
        values: dict[str, Any] = {
            "model": self.model,
            "dataset": self.dataset,
            "seed": self.seed,
            "done": list(self.done),
            "absent": self.absent or None,
            "num_params": self.num_params,
        }
        if self.estimate is None:
            return values | {"fits": None}
        placement = self.estimate.placement
        phases = {
            name: {
                "seconds": phase.seconds,
                "memory_bytes": phase.memory_bytes,
                "gpu_memory_bytes": phase.gpu_memory_bytes,
                "num_cpus": phase.num_cpus,
                "num_observations": phase.num_observations,
            }
            for name, phase in (
                ("fit", self.estimate.fit),
                ("evaluate", self.estimate.evaluate),
                ("measure", self.estimate.measure),
            )
        }
        return values | {
            "fits": self.fits,
            "reason": self.estimate.reason or None,
            "changes": list(placement.changes) if placement else [],
            "quantization": placement.load.quantization if placement else "none",
            "device_batch_size": placement.load.batch_size if placement else None,
            "spared_bytes": self.estimate.spared_bytes,
            "phases": phases,
        }


@dataclass(frozen=True)
class ClassView:
    """The plan for one device class."""

    name: str
    device: DeviceClass
    rows: Sequence[PlannedRow]

    @property
    def todo(self) -> list[PlannedRow]:
        """Trials of known size that fit and have phases left."""
        return [row for row in self.rows if row.fits and len(row.done) < 3]

    @property
    def makespan_s(self) -> float:
        """Seconds on one such machine at best: fits side by side as its CPUs or GPU allow, measurements alone."""
        return sum(row.packed_s * self._share(row) for row in self.todo) + sum(row.alone_s for row in self.todo)

    @property
    def cost(self) -> float | None:
        """Price of `makespan_s`, None where no price is known."""
        price = self.device.price_per_hour
        return None if price is None else price * self.makespan_s / 3600

    def _share(self, row: PlannedRow) -> float:
        assert row.estimate is not None
        if self.device.device == "cuda" and row.estimate.fit.gpu_memory_bytes:
            return gpu_share(row.estimate.fit.gpu_memory_bytes, self.device)
        return 1.0 if self.device.device == "mps" else 1 / self.device.num_cpus

    def as_json(self) -> dict[str, Any]:
        """Return plain values in base units."""
        return {
            "device_class": self.name,
            "description": self.device.description,
            "makespan_s": self.makespan_s,
            "cost": self.cost,
            "trials": [row.as_json() for row in self.rows],
        }

    def facts(self) -> str:
        """Return the line above the table."""
        gpu = f", {self.device.gpu_memory_gib:g} GiB on the GPU" if self.device.gpu_memory_gib else ""
        size = f"{self.device.num_cpus} cores, {self.device.memory_gib:.3g} GiB{gpu}"
        cost = "price unknown" if self.cost is None else f"cost {self.cost:,.2f}"
        to_do = f"{len(self.todo)} trials to do, at best {hours(self.makespan_s)} on one such machine, {cost}"
        return f"{self.name}: {self.device.description} ({size}); {to_do}"

    def summary(self) -> str:
        """Describe how many models fit as requested, with changes, and not at all."""
        whole: list[str] = []
        changed: list[str] = []
        not_all: list[str] = []
        unknown: list[str] = []
        for name, rows in by_model(self.rows).items():
            known = [row for row in rows if row.estimate is not None]
            changes = any(row.estimate and row.estimate.placement and row.estimate.placement.changes for row in known)
            kind = not_all if not all(row.fits for row in known) else changed if changes else whole
            (kind if known else unknown).append(name)
        parts = [
            f"{len(whole)} of {len(whole + changed + not_all + unknown)} models fit as asked",
            f"{len(changed)} with changes ({', '.join(changed)})" if changed else "",
            f"{len(not_all)} do not fit ({', '.join(not_all)})" if not_all else "",
            f"{len(unknown)} of unknown size ({', '.join(unknown)})" if unknown else "",
        ]
        return f"On {self.name} {', '.join(filter(None, parts))}."

    def table(self) -> list[list[str]]:
        """Return one row of cells per model."""
        return [_line(name, rows, self.device) for name, rows in by_model(self.rows).items()]

    def advice(self) -> dict[str, str]:
        """Return the options that make a model fit, by model, without the models that fit as requested."""
        found: dict[str, str] = {}
        for row in self.rows:
            if row.fits and row.estimate and row.estimate.placement:
                options = options_for(row.estimate.placement)
                found[row.model] = max(found.get(row.model, ""), options, key=len)
        return {name: options for name, options in found.items() if options}

    def spared(self) -> list[str]:
        """Return one sentence per trained language model on the memory that scoring only its label words saves."""
        most: dict[str, int] = {}
        for row in self.rows:
            if row.fits and row.estimate:
                most[row.model] = max(most.get(row.model, 0), row.estimate.spared_bytes)
        return [
            f"{name}: only the label words of its vocabulary are scored; all of it, at every token, would take "
            f"{spared / GIB:.1f} GiB more"
            for name, spared in most.items()
            if spared
        ]

    def refusals(self) -> list[str]:
        """Return one sentence per model that does not fit, with the reason from the dataset that needs most."""
        found = []
        for name, rows in by_model(self.rows).items():
            not_fitting = [row for row in rows if row.estimate is not None and not row.fits]
            if not_fitting:
                worst = max(not_fitting, key=_bytes)
                assert worst.estimate is not None
                sets = sorted({row.dataset for row in not_fitting})
                found.append(f"{name} on {', '.join(sets)}: {worst.estimate.reason}")
        return found


def by_model(rows: Iterable[PlannedRow]) -> Mapping[str, list[PlannedRow]]:
    """Return the rows of each model, with models in the order of the request."""
    found: dict[str, list[PlannedRow]] = {}
    for row in rows:
        found.setdefault(row.model, []).append(row)
    return found


def absent_sentence(rows: Iterable[PlannedRow]) -> str:
    """Describe what the request must fetch first, and how; empty if nothing."""
    parts = sorted({part for row in rows for part in row.absent.split("; ") if part})
    names = [part.removeprefix("dataset ").removeprefix("model ") for part in parts]
    return (
        f"Not on this machine yet: {', '.join(names)}. `run` fetches them, or `moodbench fetch` beforehand."
        if names
        else ""
    )


def _line(name: str, rows: list[PlannedRow], device: DeviceClass) -> list[str]:
    known = [row for row in rows if row.estimate is not None]
    num_done = sum(len(row.done) for row in rows)
    first = [name, count(rows[0].num_params), str(len(rows)), f"{num_done}/{3 * len(rows)}"]
    if not known:
        return [*first, MISSING, MISSING, MISSING, MISSING, MISSING, "sizes unknown: fetch it first"]
    worst = max(known, key=_bytes)
    assert worst.estimate is not None
    fit = worst.estimate.fit
    longest = max(row.estimate.fit.seconds for row in known if row.estimate)
    every = sum(row.packed_s + row.alone_s for row in known if row.fits)
    gpu = fit.gpu_memory_bytes
    share = f"{gpu_share(gpu, device):.2f}" if gpu else MISSING
    possible = any(row.fits for row in known)
    return [
        *first,
        hours(longest) if possible else MISSING,
        hours(every) if possible else MISSING,
        f"{gpu / GIB:.1f}" if gpu else MISSING,
        f"{fit.memory_bytes / GIB:.1f}",
        share,
        _how(known),
    ]


def _how(rows: list[PlannedRow]) -> str:
    not_fitting = sum(not row.fits for row in rows)
    if not_fitting == len(rows):
        return "does not fit"
    formats = {
        p.load.quantization if p.load.quantization != "none" else p.load.weights_precision
        for row in rows
        if row.fits and row.estimate and (p := row.estimate.placement)
    }
    stored = f"{', '.join(sorted(formats))} weights" if formats else ""
    changes = max(
        (row.estimate.placement.changes for row in rows if row.estimate and row.estimate.placement and row.fits),
        key=len,
        default=(),
    )
    words = " + ".join(changes) or ", ".join(filter(None, ("fits", stored)))
    return f"{words}; {not_fitting} trials do not fit" if not_fitting else words


def _bytes(row: PlannedRow) -> float:
    if row.estimate is None:
        return -math.inf
    return row.estimate.fit.gpu_memory_bytes or row.estimate.fit.memory_bytes


def basis(rows: Iterable[PlannedRow]) -> str:
    """Describe what the estimated times are based on."""
    phases = [
        p for row in rows if row.estimate for p in (row.estimate.fit, row.estimate.evaluate, row.estimate.measure)
    ]
    corrected = sum(phase.num_observations > 0 for phase in phases)
    if missing(corrected) or not corrected:
        return (
            "Times are a roofline that no run in this store has corrected; "
            "they may be off several times, more where other work runs beside."
        )
    return f"Times of {corrected} of {len(phases)} phases are corrected by what such phases took in this store."
