"""Resolution of a spec: data fingerprints, weight digests, and complete fit specs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import product
from typing import Any, get_args

from moodbench.benchmark.recipe import FitDevice, RequestedModel, check_changes, recipe_of
from moodbench.config.catalogue import Catalogue
from moodbench.config.schema import (
    DatasetEntry,
    DeviceClass,
    FineTuning,
    InferenceDtype,
    MeasureProtocol,
    Method,
    ModelEntry,
)
from moodbench.data.loader import Sources, pinned_source
from moodbench.errors import SpecError, UsageError
from moodbench.hardware import GIB, Device, Hardware
from moodbench.models.families import model_type_of
from moodbench.models.features import GPU_MEMORY_GIB
from moodbench.models.locate import locate
from moodbench.models.predictor import deployed_dtype, deployed_form
from moodbench.paths import expanded
from moodbench.spec import (
    BASELINE_OF_SCORE,
    BenchmarkSpec,
    EvaluateSpec,
    FitSpec,
    MeasureSpec,
    ResolvedDataset,
    ResolvedModel,
    SeedSpec,
    TrialSpec,
)

LEXICON_PACKAGES = {"vader": "vaderSentiment"}
"""Packages of ready-made baselines; the package version is their revision."""
TWO_LABELS = ("negative", "positive")
"""Labels assumed for datasets whose labels are not known before they are downloaded."""


def resolve(
    spec: BenchmarkSpec,
    catalogue: Catalogue,
    machine: Hardware,
    *,
    sources: Sources | None = None,
    with_baseline: bool = True,
) -> list[TrialSpec]:
    """Return the trials of `spec`: every model with every dataset and seed, with ids.

    The baseline that defines the zero of the pinned score is added if `spec` leaves it out, unless `with_baseline` is
    False. Datasets are loaded into `sources`. Everything wrong with the request is raised here, before anything runs.

    Raises: UnknownNameError, SpecError, UsageError, PrerequisiteError or DataError.
    """
    check_changes(spec, catalogue)
    entries = entries_of(spec, catalogue, with_baseline=with_baseline)
    catalogue = with_own_data(catalogue, spec)
    sources = sources or Sources()
    datasets = [resolve_dataset(name, catalogue.dataset(name), spec, sources) for name in dataset_names(spec)]
    models = [resolve_model(name, entry) for name, entry in entries.items()]
    for model, dataset in product(models, datasets):
        if model.entry.baseline == "vader" and len(dataset.labels) > 3:
            raise SpecError(
                f"model {model.name}: distinguishes 2 or 3 classes, dataset {dataset.name} has {len(dataset.labels)} "
                f"({', '.join(dataset.labels)}); leave the model out, or merge classes with a label map"
            )
    device = machine.device(spec.device)
    protocol, batch_size = catalogue.protocol(spec.protocol), catalogue.evaluation.prediction_batch_size
    fits = fits_of(spec, catalogue, datasets, models, fit_device(machine, device))
    return [trial_of(fit, device, machine, protocol, batch_size, spec.inference_dtype) for fit in fits]


def fit_device(machine: Hardware, device: Device) -> FitDevice:
    """Return `device` of a machine as recipes see it; of several GPUs, the smallest counts."""
    gib = [round(gpu.memory_bytes / GIB) for gpu in machine.gpus]
    return FitDevice(device, machine.multiplies_bf16(device), min(gib, default=GPU_MEMORY_GIB))


def fit_device_of(device: DeviceClass) -> FitDevice:
    """Return a device class as recipes see it."""
    return FitDevice(device.device, "bf16" in device.tflops, round(device.gpu_memory_gib or GPU_MEMORY_GIB))


def fits_of(
    spec: BenchmarkSpec,
    catalogue: Catalogue,
    datasets: Iterable[ResolvedDataset],
    models: Sequence[RequestedModel],
    device: FitDevice,
) -> Iterator[FitSpec]:
    """Yield the fit of each model on each dataset with each seed of `spec`."""
    for dataset, model in product(datasets, models):
        where = device._replace(name=device_of(model.entry.method, device.name))
        recipe = recipe_of(model, where, dataset.labels or TWO_LABELS, catalogue, spec)
        for seed in spec.seeds:
            seeds = SeedSpec(init=seed, data_order=seed, subsample=seed)
            yield FitSpec(model=model.resolved, dataset=dataset, seeds=seeds, **recipe)


def trial_of(
    fit: FitSpec,
    device: Device,
    machine: Hardware,
    protocol: MeasureProtocol,
    prediction_batch_size: int,
    inference_dtype: InferenceDtype = "auto",
) -> TrialSpec:
    """Return the trial of `fit`, with its measurement on `device` of this machine and all its cores.

    A classical baseline is measured on the CPU. Weights are evaluated and measured in the format `inference_dtype`.

    Raises: SpecError if the weights are quantised and another format than "auto" is wanted.
    """
    device, threads = device_of(fit.model.method, device), machine.num_cores
    measure = MeasureSpec(
        fit=fit,
        form=deployed_form(fit),
        protocol=protocol,
        perf_key=machine.perf_key(device, threads),
        num_threads=threads,
        device=device,
        dtype=deployed_dtype(fit, device, inference_dtype),
    )
    evaluate = EvaluateSpec(fit=fit, batch_size=prediction_batch_size, dtype=measure.dtype)
    return TrialSpec(fit=fit, evaluate=evaluate, measure=measure)


def device_of(method: Method, device: Device) -> Device:
    """Return the device for a model fitted by `method`; classical baselines always run on the CPU."""
    return "cpu" if method == "baseline" else device


def dataset_names(spec: BenchmarkSpec) -> tuple[str, ...]:
    """Return the names of the datasets of `spec`, the user's own first."""
    return spec.datasets if spec.own is None else (spec.own[0], *spec.datasets)


def entries_of(spec: BenchmarkSpec, catalogue: Catalogue, *, with_baseline: bool = True) -> dict[str, ModelEntry]:
    """Return the entries of the models of `spec` by name, preceded by the baseline of the score if it is left out."""
    added = () if BASELINE_OF_SCORE in spec.models or not with_baseline else (BASELINE_OF_SCORE,)
    return {name: entry_of(name, catalogue, spec) for name in (*added, *spec.models)}


def entry_of(name: str, catalogue: Catalogue, spec: BenchmarkSpec) -> ModelEntry:
    """Return the entry of model `name`, with the fine-tuning method that `spec` asks for.

    Raises: UnknownNameError, which suggests the nearest name.
    """
    entry = catalogue.model(name)
    if spec.method is None or entry.method not in get_args(FineTuning):
        return entry
    return entry.model_copy(update={"method": spec.method})


def with_own_data(catalogue: Catalogue, spec: BenchmarkSpec) -> Catalogue:
    """Return the catalogue with the user's own data of `spec` added.

    Raises: UsageError if the catalogue already has a dataset of that name.
    """
    if spec.own is None:
        return catalogue
    name, entry = spec.own
    if name in catalogue.datasets:
        raise UsageError(
            f"data {spec.data!r}: the catalogue has a dataset {name!r}; give another name with data_name (--data-name)"
        )
    return replace(catalogue, datasets={**catalogue.datasets, name: entry})


def resolve_dataset(name: str, entry: DatasetEntry, spec: BenchmarkSpec, sources: Sources) -> ResolvedDataset:
    """Return the dataset with its splits pinned by fingerprint."""
    if entry.embedded is None and spec.neutral_band is not None:
        raise SpecError(
            f"neutral_band {spec.neutral_band}: dataset {name} has no mean ratings; "
            "leave it out, and drop neutral labels with a label map (VALUE=drop)"
        )
    band = (entry.neutral_band or 0.0) if spec.neutral_band is None else spec.neutral_band
    source = pinned_source(entry, band)
    examples = sources.load(name, source)
    return ResolvedDataset(
        name=name,
        embedded=entry.embedded,
        file=source.file,
        hub=source.hub,
        revision=examples.revision,
        labels=examples.labels,
        neutral_band=band,
        max_train_examples=spec.max_train_examples,
        max_validation_examples=spec.max_validation_examples,
        sampling=spec.sampling,
        train_fingerprint=examples.fingerprint("train"),
        validation_fingerprint=examples.fingerprint("validation"),
        test_fingerprint=examples.fingerprint("test"),
    )


def resolve_model(name: str, entry: ModelEntry, *, convert: bool = True) -> RequestedModel:
    """Return the model with its weights pinned by digest.

    Unless `convert`, a GGUF file that has not been converted yet is left as it is, and the folder is None.
    """
    if entry.baseline is not None:
        package = LEXICON_PACKAGES.get(entry.baseline)
        revision = version(package) if package else None
        resolved = ResolvedModel(name=name, method=entry.method, baseline=entry.baseline, revision=revision)
        return RequestedModel(resolved, entry)
    assert entry.source is not None
    located = locate(name, entry.source, convert=convert or entry.family is None)  # only converted files state it
    folder = located.folder if located.folder.is_dir() else None
    pinned: dict[str, Any] = {"sha256": located.weights_sha256}
    if entry.source.hub:
        pinned |= {"revision": located.revision, "converted": False}
    elif entry.source.path:
        pinned["path"] = str(expanded(entry.source.path, f"model {name}: "))
    resolved = ResolvedModel(
        name=name,
        method=entry.method,
        family=entry.family or model_type_of(name, located.folder),
        source=entry.source.model_copy(update=pinned),
        revision=located.revision,
        weights_sha256=located.weights_sha256,
        tokenizer_sha256=located.tokenizer_sha256,
        config_sha256=located.config_sha256,
        num_hidden_layers=entry.num_hidden_layers,
    )
    return RequestedModel(resolved, entry, folder)
