"""Memory and time that each phase of a trial needs on a device class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import NamedTuple

from moodbench.config.schema import DeviceClass, MeasureProtocol, NumberFormat
from moodbench.estimate.duration import (
    BASELINE_FIXED_S,
    BASELINE_START_S,
    NUM_C_BEYOND_GRID,
    START_S,
    TFIDF_S_PER_TOKEN_AND_C,
    DataSize,
    Workload,
    baseline_s,
    fine_tune_s,
    forward_s,
    load_s,
    measure_s,
    predict_s,
)
from moodbench.estimate.memory import (
    BASELINE_PROCESS_BYTES,
    FitMemory,
    Load,
    Placement,
    needed_bytes,
    place,
    predict_memory,
    prediction_load,
    vocabulary_bytes,
    with_checkpointing,
)
from moodbench.estimate.shape import NUM_DENSE_IN_HEAD, Shape
from moodbench.spec import FitSpec
from moodbench.spec.fit_schedule import num_trained_on, steps_of
from moodbench.spec.job import PhaseName

MAX_BASELINE_BYTES_PER_TEXT = 4000
"""Bytes for the texts themselves, their lengths and predictions."""
MAX_TFIDF_BYTES_PER_TOKEN = 800
"""Bytes for TF-IDF rows and n-grams of words and characters, for each token of the training texts."""


class Observation(NamedTuple):
    """One phase that ran."""

    phase: PhaseName
    machine: str
    """Key of the machine type and device."""
    method: str
    """Baseline, linear-probe or lora."""
    family: str
    model: str
    estimated_s: float
    """The uncorrected estimate."""
    observed_s: float


class Correction(NamedTuple):
    """Correction factor, and the number of observations that it is based on."""

    factor: float
    num_observations: int
    """0: the estimate is not corrected."""


@dataclass(frozen=True)
class History:
    """Observations of one store."""

    observations: tuple[Observation, ...] = ()

    @classmethod
    def of(cls, observations: Iterable[Observation]) -> History:
        """Return the history of the observations whose times are positive."""
        return cls(tuple(o for o in observations if o.estimated_s > 0 and o.observed_s > 0))

    def correction(self, phase: PhaseName, machine: str, method: str, family: str, model: str) -> Correction:
        """Return the median of observed / estimated time for the same phase and method on the same machine type.

        It is taken over the observations of this model if there are any, else of its family, else of its method (not
        for baselines). Without observations, the factor is 1.
        """
        here = [o for o in self.observations if o.phase == phase and o.machine == machine and o.method == method]
        for chosen in (
            [o for o in here if o.model == model],
            [o for o in here if o.family == family],
            here if method != "baseline" else [],
        ):
            if chosen:
                return Correction(median(o.observed_s / o.estimated_s for o in chosen), len(chosen))
        return Correction(1.0, 0)


@dataclass(frozen=True)
class PhaseEstimate:
    """Time and memory that one phase needs."""

    seconds: float
    memory_bytes: int
    """Memory of the machine, without that of a CUDA device."""
    start_s: float = 0.0
    """Part of `seconds` before the process of the phase can begin, which history does not correct."""
    gpu_memory_bytes: int = 0
    """Memory of one CUDA device."""
    gpu_fixed_bytes: int | None = None
    """Part of `gpu_memory_bytes` on each device if the model is split over several; None if it cannot be split."""
    num_cpus: int = 1
    num_observations: int = 0
    """Number of stored phases that corrected `seconds`; 0: the roofline alone."""

    @property
    def work_s(self) -> float:
        """Seconds without the start."""
        return self.seconds - self.start_s


@dataclass(frozen=True)
class TrialEstimate:
    """Time and memory that a trial needs, by phase."""

    fit: PhaseEstimate
    evaluate: PhaseEstimate
    measure: PhaseEstimate
    placement: Placement | None = None
    """How the fit fits on the device; None for a classical baseline, which always runs on the CPU."""
    spared_bytes: int = 0
    """Bytes saved in training a language model because its head computes only the label words."""

    def phase(self, name: PhaseName) -> PhaseEstimate:
        """Return the estimate of one phase."""
        return {"fit": self.fit, "evaluate": self.evaluate, "measure": self.measure}[name]

    @property
    def reason(self) -> str:
        """Why the fit does not fit on the device; empty if it does."""
        return self.placement.reason if self.placement else ""


@dataclass(frozen=True)
class Estimator:
    """Estimates for the models and datasets whose sizes are known."""

    shapes: Mapping[str, Shape]
    """By model name; classical baselines have none."""
    sizes: Mapping[str, DataSize]
    """By dataset name."""
    history: History = field(default_factory=History)

    def knows(self, fit: FitSpec) -> bool:
        """Return whether the sizes of the model and the dataset of `fit` are known."""
        return fit.dataset.name in self.sizes and (fit.model.method == "baseline" or fit.model.name in self.shapes)

    def trial(
        self,
        fit: FitSpec,
        device: DeviceClass,
        protocol: MeasureProtocol,
        *,
        batch_size: int,
        machine: str = "",
        may_change: bool = False,
        inference_dtype: NumberFormat | None = None,
    ) -> TrialEstimate:
        """Return what `fit`, its evaluation in batches of `batch_size` and its measurement need.

        `machine` is the key under which history is looked up. With `may_change`, the fit is changed so that it fits on
        the device, if possible. `inference_dtype` is the number format of deployed weights, by default that of the fit.
        Raises: KeyError if a size is unknown.
        """
        size = self.sizes[fit.dataset.name]
        num_train, num_validation = num_trained_on(fit, size.num_train), size.num_validation
        if fit.dataset.max_validation_examples:
            num_validation = min(num_validation, fit.dataset.max_validation_examples)
        size = replace(size, num_train=num_train, num_validation=num_validation)
        template = () if fit.prompt is None else (len(fit.prompt.template.split()), fit.prompt.num_examples)
        work = size.as_read(fit.text.max_length if fit.text else 10**9, *template)
        if fit.model.method == "baseline":
            raw = self._baseline(fit, work, protocol)
        else:
            shape = self.shapes[fit.model.name]
            if fit.model.num_hidden_layers:
                shape = shape.first_layers(fit.model.num_hidden_layers)
            requested = self.load(fit, shape, work, device)
            placement = place(
                shape,
                requested,
                device,
                may_change=may_change,
                prediction_batch_size=batch_size,
                inference_dtype=inference_dtype,
            )
            predicting = prediction_load(placement.load, batch_size, inference_dtype)
            raw = self._transformer(fit, shape, work, device, protocol, placement, predicting)
        return replace(
            raw,
            fit=self._corrected("fit", raw.fit, fit, machine),
            evaluate=self._corrected("evaluate", raw.evaluate, fit, machine),
            measure=self._corrected("measure", raw.measure, fit, machine),
        )

    def _corrected(self, phase: PhaseName, raw: PhaseEstimate, fit: FitSpec, machine: str) -> PhaseEstimate:
        model = fit.model
        found = self.history.correction(phase, machine, model.method, model.family or "", model.name)
        return replace(raw, seconds=raw.start_s + raw.work_s * found.factor, num_observations=found.num_observations)

    def _baseline(self, fit: FitSpec, work: Workload, protocol: MeasureProtocol) -> TrialEstimate:
        name = fit.model.baseline
        assert name is not None
        memory = BASELINE_PROCESS_BYTES + MAX_BASELINE_BYTES_PER_TEXT * (work.num_train + work.num_test)
        fitting = BASELINE_FIXED_S + baseline_s(name, work.num_train + work.num_validation, work.mean_tokens)
        if fit.tfidf:
            memory += round(MAX_TFIDF_BYTES_PER_TOKEN * work.num_train * work.mean_tokens)
            tried = len(fit.tfidf.inverse_regularisation) + NUM_C_BEYOND_GRID
            fitting += TFIDF_S_PER_TOKEN_AND_C * tried * work.num_train * work.mean_tokens
        predicting = BASELINE_FIXED_S + baseline_s(name, work.num_test + work.num_validation, work.mean_tokens)
        latency = baseline_s(name, 1, work.mean_tokens)
        return TrialEstimate(
            PhaseEstimate(BASELINE_START_S + fitting, memory, BASELINE_START_S),
            PhaseEstimate(predicting, memory),
            PhaseEstimate(measure_s(protocol, latency, BASELINE_START_S), memory),
        )

    def _transformer(
        self,
        fit: FitSpec,
        shape: Shape,
        work: Workload,
        device: DeviceClass,
        protocol: MeasureProtocol,
        placement: Placement,
        predicting: Load,
    ) -> TrialEstimate:
        load = placement.load
        prediction_memory = predict_memory(shape, predicting)
        packed = _one_core(device)
        if fit.train is not None:
            fitting = fine_tune_s(shape, packed, load, fit.train, work)
        elif fit.model.method == "prompted":
            fitting = 0.0
        else:
            texts = work.num_train + work.num_validation
            fitting = predict_s(shape, packed, predicting, texts, work)
        evaluating = predict_s(shape, packed, predicting, work.num_test + work.num_validation, work)
        single = replace(predicting, batch_size=1)
        latency = forward_s(shape, device, single, 1, work.mean_tokens)
        measuring = measure_s(protocol, latency, START_S[device.device] + load_s(shape, single))
        cuda = device.device == "cuda"

        def phase(seconds: float, needs: FitMemory, start_s: float = 0.0) -> PhaseEstimate:
            host = needs.host if cuda else needed_bytes(needs, device)
            fixed = needs.fixed if cuda and fit.train is not None else None
            return PhaseEstimate(start_s + seconds, host, start_s, needs.device_bytes if cuda else 0, fixed)

        return TrialEstimate(
            phase(fitting, placement.memory if fit.train is not None else prediction_memory, START_S[device.device]),
            phase(evaluating, prediction_memory),
            phase(measuring, prediction_memory),
            placement,
            vocabulary_bytes(shape, load) if fit.prompt and fit.train else 0,
        )

    def load(self, fit: FitSpec, shape: Shape, work: Workload, device: DeviceClass) -> Load:
        """Return how the fit would run on `device` if it follows its spec."""
        num_labels = work.num_labels
        if fit.train is None:
            return Load(
                32,
                work.max_tokens,
                device.device,
                precision=fit.dtype,
                weights_precision=fit.dtype,
                quantization=fit.quantization,
                dropout=False,
            )
        precision = fit.train.precision
        if precision not in device.tflops:
            precision = "fp16" if device.device == "cuda" and precision == "auto" else "fp32"
        load = Load(
            batch_size=min(steps_of(fit.train, work.num_train).batch_size, fit.train.max_device_batch_size),
            num_tokens=work.max_tokens,
            device=device.device,
            precision=precision,
            weights_precision=fit.dtype,
            quantization=fit.quantization,
            dropout=fit.train.base_dropout != 0,
            num_trained=trained_params(fit, shape, num_labels),
            full=fit.lora is None,
        )
        return with_checkpointing(shape, load, device)


def trained_params(fit: FitSpec, shape: Shape, num_labels: int) -> int:
    """Return how many parameters fine-tuning changes: the adapter or all, plus any classification head."""
    head = 0 if fit.prompt else shape.head_params(num_labels, NUM_DENSE_IN_HEAD.get(fit.model.family or "", 0))
    if fit.lora is None:
        return shape.num_params + head
    return shape.lora_params(fit.target_modules, fit.lora.r) + head


def _one_core(device: DeviceClass) -> DeviceClass:
    """Return the part of a CPU that one of several concurrent fits has: one core and its share of the bandwidth.

    Accelerators are returned unchanged, because they are shared in another way.
    """
    if device.device != "cpu":
        return device
    share = 1 / device.num_cpus
    tflops = {name: share * value for name, value in device.tflops.items()}
    return device.model_copy(update={"tflops": tflops, "bandwidth_gb_s": share * device.bandwidth_gb_s})
