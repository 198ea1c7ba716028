"""Resolution of a spec: data fingerprints, weight digests, LoRA targets and effective hyper-parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from moodbench.benchmark.prompts import prompt_of, read_prompt
from moodbench.config.catalogue import Catalogue, merge, with_changed_training
from moodbench.config.schema import (
    Augmentation,
    DatasetEntry,
    FineTuning,
    LoraDefaults,
    MeasureProtocol,
    Method,
    ModelEntry,
    ProbeDefaults,
    TextDefaults,
    TfidfDefaults,
    TrainDefaults,
)
from moodbench.config.yaml_files import validated
from moodbench.data.source import load_source, pinned_source
from moodbench.errors import SpecError, UsageError
from moodbench.hardware import Device, Hardware
from moodbench.models.families import family_of, model_type_of, num_params_of, published_in
from moodbench.models.features import (
    check_lora,
    check_optimizer,
    check_quantization,
    device_batch_size,
    precision_of,
    weights_format,
)
from moodbench.models.locate import locate
from moodbench.models.predictor import STEPS, deployed_form
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

COUNTING = ("majority", "vader")
"""Baselines that learn class shares at most, so that augmented copies of texts would add nothing."""
LEXICON_PACKAGES = {"vader": "vaderSentiment"}
"""Packages of ready-made baselines; the package version is their revision."""


def resolve(
    spec: BenchmarkSpec, catalogue: Catalogue, machine: Hardware, *, with_baseline: bool = True
) -> list[TrialSpec]:
    """Return the trials of `spec`: every model with every dataset and seed, with ids.

    The baseline that defines the zero of the pinned score is added if `spec` leaves it out, unless `with_baseline` is
    False. Everything wrong with the request is raised here, before anything runs.

    Raises: UnknownNameError, SpecError, UsageError, PrerequisiteError or DataError.
    """
    check_changes(spec, catalogue)
    added = () if BASELINE_OF_SCORE in spec.models or not with_baseline else (BASELINE_OF_SCORE,)
    entries = {name: entry_of(name, catalogue, spec) for name in (*added, *spec.models)}
    datasets = spec.datasets if spec.own is None else (spec.own[0], *spec.datasets)
    catalogue = with_own_data(catalogue, spec)
    data = {name: resolve_dataset(name, catalogue.dataset(name), spec) for name in datasets}
    models = {name: resolve_model(name, entry) for name, entry in entries.items()}
    for (name, entry), dataset in product(entries.items(), data.values()):
        if entry.baseline == "vader" and len(dataset.labels) > 3:
            raise SpecError(
                f"model {name}: tells 2 or 3 classes apart, dataset {dataset.name} has {len(dataset.labels)} "
                f"({', '.join(dataset.labels)}); leave the model out, or merge classes with a label map"
            )
    protocol = catalogue.protocol(spec.protocol)
    trials = []
    for dataset in data.values():
        for name, entry in entries.items():
            device = device_of(entry.method, machine.device(spec.device))
            folder = locate(name, entry.source).folder if entry.source is not None else None
            recipe = recipe_of(
                name,
                entry,
                catalogue,
                spec,
                device,
                dataset.labels,
                folder,
                bf16_in_hardware=machine.multiplies_bf16(device),
            )
            for seed in spec.seeds:
                seeds = SeedSpec(init=seed, data_order=seed, subsample=seed)
                fit = FitSpec(model=models[name], dataset=dataset, seeds=seeds, **recipe)
                trials.append(trial_of(fit, device, machine, protocol, catalogue.evaluation.prediction_batch_size))
    return trials


def check_changes(spec: BenchmarkSpec, catalogue: Catalogue) -> None:
    """Raise SpecError or UnknownNameError for invalid overrides, even if no model of the request reads them."""
    if spec.recipe is not None:
        catalogue.recipe(spec.recipe)
    if spec.prompt is not None:
        read_prompt(spec.prompt, catalogue)
    _overlaid(LoraDefaults, catalogue.training.lora, "the request", "lora", spec.lora)
    _overlaid(TrainDefaults, catalogue.training.train, "the request", "train", spec.train)
    _overlaid(TextDefaults, catalogue.training.text, "the request", "text", spec.text)
    augmentation_of(spec)


def trial_of(
    fit: FitSpec, device: Device, machine: Hardware, protocol: MeasureProtocol, prediction_batch_size: int
) -> TrialSpec:
    """Return the trial of `fit`, with its measurement on `device` of this machine and all its cores."""
    threads = machine.num_cores
    measure = MeasureSpec(
        fit=fit,
        form=deployed_form(fit),
        protocol=protocol,
        perf_key=machine.perf_key(device, threads),
        num_threads=threads,
        device=device,
    )
    return TrialSpec(fit=fit, evaluate=EvaluateSpec(fit=fit, batch_size=prediction_batch_size), measure=measure)


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


def resolve_dataset(name: str, entry: DatasetEntry, spec: BenchmarkSpec) -> ResolvedDataset:
    """Return the dataset with its splits pinned by fingerprint."""
    if entry.embedded is None and spec.neutral_band is not None:
        raise SpecError(
            f"neutral_band {spec.neutral_band}: dataset {name} has no mean ratings; "
            "leave it out, and drop neutral labels with a label map (VALUE=drop)"
        )
    band = (entry.neutral_band or 0.0) if spec.neutral_band is None else spec.neutral_band
    source = pinned_source(entry, band)
    examples = load_source(name, source).examples
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


def resolve_model(name: str, entry: ModelEntry) -> ResolvedModel:
    """Return the model with its weights pinned by digest."""
    if entry.baseline is not None:
        return ResolvedModel(
            name=name,
            method=entry.method,
            baseline=entry.baseline,
            revision=version(LEXICON_PACKAGES[entry.baseline]) if entry.baseline in LEXICON_PACKAGES else None,
        )
    assert entry.source is not None
    located = locate(name, entry.source)
    pinned: dict[str, Any] = {"sha256": located.weights_sha256}
    if entry.source.hub:
        pinned |= {"revision": located.revision, "converted": False}
    elif entry.source.path:
        pinned["path"] = str(Path(entry.source.path).expanduser())
    return ResolvedModel(
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


def device_of(method: Method, device: Device) -> Device:
    """Return the device for a model fitted by `method`; classical baselines always run on the CPU."""
    return "cpu" if method == "baseline" else device


def recipe_of(
    name: str,
    entry: ModelEntry,
    catalogue: Catalogue,
    spec: BenchmarkSpec,
    device: Device,
    labels: Sequence[str],
    folder: Path | None,
    *,
    bf16_in_hardware: bool = False,
) -> dict[str, Any]:
    """Return the parts of a fit spec that the model's method reads.

    The model's entry overrides the defaults of the catalogue, and the request overrides both. `labels` are those of the
    dataset. `folder` holds the model's files; None: they are not on this machine. `bf16_in_hardware` says whether
    `device` has bf16 arithmetic.
    """
    preparation = tuple(step for step in STEPS if step in spec.prepare)
    if entry.baseline in COUNTING:
        return {"preparation": preparation}
    texts = {"preparation": preparation, "augmentation": augmentation_of(spec)}
    return texts | _method_of(name, entry, catalogue, spec, device, labels, folder, bf16_in_hardware)


def augmentation_of(spec: BenchmarkSpec) -> Augmentation | None:
    """Return how training texts are augmented; None if they are not.

    Raises: SpecError for an invalid augmentation.
    """
    return _overlaid(Augmentation, None, "the request", "augment", spec.augment) if spec.augment else None


def _method_of(
    name: str,
    entry: ModelEntry,
    catalogue: Catalogue,
    spec: BenchmarkSpec,
    device: Device,
    labels: Sequence[str],
    folder: Path | None,
    bf16_in_hardware: bool,
) -> dict[str, Any]:
    defaults = catalogue.training
    if entry.baseline is not None:
        return {"tfidf": _overlaid(TfidfDefaults, defaults.tfidf, f"model {name}", "tfidf", entry.tfidf)}
    text = _overlaid(TextDefaults, defaults.text, f"model {name}", "text", entry.text, spec.text)
    if entry.method == "linear-probe":
        return {"text": text, "probe": _overlaid(ProbeDefaults, defaults.probe, f"model {name}", "probe", entry.probe)}
    family = family_of(name, entry, catalogue.families)[1]
    num_params = num_params_of(name, entry)
    prompt = prompt_of(name, entry, family, catalogue, spec, labels, folder)
    lora_values, train_values = catalogue.fine_tuning(
        entry, family.kind, "classification" if prompt is None else "label-words", num_params, spec.recipe
    )
    train = _overlaid(TrainDefaults, None, f"model {name}", "train", with_changed_training(train_values, spec.train))
    quantization = check_quantization(spec.quantization or entry.quantization, device, name)
    full = entry.method == "full"
    if full and quantization != "none":
        raise SpecError(
            f"model {name}: method 'full' with quantization {quantization!r}: weights so stored cannot be trained; use "
            "--quantization none, or --method lora"
        )
    precision = precision_of(
        train.precision,
        device,
        name,
        fp16_safe=family.fp16,
        published=published_in(name, entry),
        bf16_in_hardware=bf16_in_hardware,
        num_params=num_params,
    )
    answering: dict[str, Any] = {
        "text": text,
        "prompt": prompt,
        "quantization": quantization,
        "dtype": "fp32" if full else weights_format(precision, quantization, device, num_params),
    }
    if entry.method == "prompted":
        return answering | {"augmentation": None}
    changes = {
        "precision": precision,
        "optimizer": check_optimizer(train.optimizer, device, name),
        "max_device_batch_size": device_batch_size(entry, train.max_device_batch_size, device, num_params),
    }
    answering["train"] = train.model_copy(update=changes)
    if full:
        return answering
    lora = check_lora(
        _overlaid(LoraDefaults, None, f"model {name}", "lora", lora_values, spec.lora), quantization, name
    )
    return answering | {"lora": lora, "target_modules": family.targets(lora.target_modules)}


def _overlaid[T: BaseModel](schema: type[T], base: T | None, where: str, part: str, *layers: dict[str, object]) -> T:
    values = base.model_dump() if base is not None else {}
    for layer in layers:
        values = merge(values, layer)
    return validated(schema, values, where, None, (part,))
