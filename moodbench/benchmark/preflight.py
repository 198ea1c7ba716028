"""Preflight check: whether the models load, and this machine has the disk and memory of a run, before it starts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodbench.benchmark.estimates import class_here, counted_size, known_shape
from moodbench.benchmark.plan import Plan, PlannedTrial
from moodbench.config.schema import DeviceClass, ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.estimate import DataSize, Estimator, Shape, TrialEstimate
from moodbench.estimate.estimator import trained_params
from moodbench.estimate.memory import WEIGHT_BYTES, options_for
from moodbench.hardware import GIB, Device, Hardware, free_memory_bytes, library_version
from moodbench.models.adapter import CHANGE_THE_BASE
from moodbench.models.locate import config_of, locate
from moodbench.paths import atomic_write, cache_folder
from moodbench.runtime.process import environment_of
from moodbench.spec import FitSpec, ResolvedModel
from moodbench.spec.job import PhaseName
from moodbench.spec.resolved import content_id
from moodbench.store.location import LocalLocation

if TYPE_CHECKING:
    from moodbench.benchmark.context import RunContext

SPARE_DISK_BYTES = 100 * 2**20
"""Left for the log, failures and other programs."""
BESIDE_ADAPTER_BYTES = 64 * 2**20
"""Tokenizer and settings of a fit; the whole estimate if the shape of the model is unknown."""
CHECKPOINT_BYTES = 12
"""Bytes of a trained parameter in a checkpoint: its value and AdamW's two moments."""
CHECKPOINTS_AT_ONCE = 3
"""The best, the last, and the one being written."""
BASELINE_DISK_BYTES_PER_TEXT, BASELINE_DISK_BYTES_PER_WORD = 2 * 2**10, 64
"""Bytes of a baseline per training text and word, as a vocabulary grows no faster than the texts."""
ROW_BYTES = 100
"""Bytes of a prediction, a timing, or an example beside its text, before compression."""
TOKENISED_ROW_BYTES, TOKEN_BYTES = 64, 4
"""Bytes of a text in the cache: its id, label and lengths, and each of its tokens."""
GERUNDS: dict[PhaseName, str] = {"fit": "fitting", "evaluate": "evaluating", "measure": "measuring"}
MODEL_CHECK_VERSION = 1
"""Version of the check of models; a new one makes the cached answers void."""
LIBRARIES = ("moodbench", "torch", "transformers", "tokenizers", "peft")


@dataclass(frozen=True)
class DiskNeed:
    """Maximum bytes that one trial writes."""

    kept: int
    """Permanently, in the store."""
    passing: int = 0
    """While it is fitted, for its checkpoints."""


def check_preflight(plan: Plan, context: RunContext, *, num_fits_at_once: int = 1, here: bool = True) -> list[str]:
    """Return what a reader should know about the models of `plan`, see `check_models`.

    Raises PrerequisiteError if a model cannot be loaded, or the missing phases need more disk or memory than there is.
    Checks the disk of the store and of this machine's cache. Memory is checked only if the trials run on this machine
    (`here`); on a cluster, the scheduler places each task by memory.
    """
    trials, store = plan.trials, context.store
    datasets = {planned.trial.fit.dataset.revision: planned.trial.fit.dataset for planned in trials}
    examples = {revision: context.sources.load(data.name, data) for revision, data in datasets.items()}
    sizes = {revision: counted_size(each) for revision, each in examples.items()}
    transformers = [p for p in trials if p.trial.fit.model.method != "baseline" and (here or "fit" in p.missing)]
    shapes = {p.trial.fit.model.name: _shape_of(p.trial.fit.model) for p in transformers}
    if isinstance(store.location, LocalLocation):
        needs = [disk_need(p, sizes[p.trial.fit.dataset.revision], shapes.get(p.trial.fit.model.name)) for p in trials]
        passing = sorted((need.passing for need in needs), reverse=True)[:num_fits_at_once]
        texts = sum(
            int(each.frame["text"].str.len().sum()) + ROW_BYTES * len(each.frame)
            for revision, each in examples.items()
            if not store.has_examples(each.name, revision)
        )
        needed = SPARE_DISK_BYTES + sum(need.kept for need in needs) + sum(passing) + texts
        cached = _cache_bytes(trials, sizes) if here else 0
        _check_disks(store.location.root, needed, cache_folder(), cached, plan.num_phases_missing)
    if here:
        _check_memory(trials, sizes, shapes, context)
    cuda = here and any(planned.trial.measure.device == "cuda" for planned in trials)
    return check_models((planned.trial.fit for planned in trials), cuda=cuda)


def disk_need(planned: PlannedTrial, size: DataSize, shape: Shape | None) -> DiskNeed:
    """Return the maximum bytes that `planned` still writes to the store; `shape` is None if unknown."""
    fit, measure = planned.trial.fit, planned.trial.measure
    kept = passing = 0
    if "fit" in planned.missing:
        if fit.model.method == "baseline":
            kept += round(
                (BASELINE_DISK_BYTES_PER_TEXT + BASELINE_DISK_BYTES_PER_WORD * size.mean_words) * size.num_train
            )
        else:
            kept += BESIDE_ADAPTER_BYTES
        if fit.train is not None and shape is not None:
            num_trained = trained_params(fit, shape, size.num_labels)
            ranks = 2 if fit.lora is not None and fit.lora.init_lora_weights in CHANGE_THE_BASE else 1
            kept += ranks * WEIGHT_BYTES * num_trained
            passing += CHECKPOINTS_AT_ONCE * CHECKPOINT_BYTES * num_trained
    if "evaluate" in planned.missing:
        kept += (size.num_test + size.num_validation) * (ROW_BYTES + 4 * len(fit.dataset.labels))
    if "measure" in planned.missing:
        kept += 3 * measure.protocol.processes * measure.protocol.requests * ROW_BYTES
    return DiskNeed(kept, passing)


def _cache_bytes(trials: Sequence[PlannedTrial], sizes: Mapping[str, DataSize]) -> int:
    """Return the maximum bytes that fine-tuning writes to the cache.

    Each dataset counts once for each tokenizer and its text settings.
    """
    found: dict[tuple[str, ...], int] = {}
    for planned in trials:
        fit = planned.trial.fit
        if "fit" in planned.missing and fit.train is not None and fit.text is not None:
            read, data = sizes[fit.dataset.revision].as_read(fit.text.max_length), fit.dataset
            num_train = min(read.num_train, data.max_train_examples or read.num_train)
            num_texts = num_train + min(read.num_validation, data.max_validation_examples or read.num_validation)
            key = (str(fit.model.tokenizer_sha256), fit.text.model_dump_json(), data.train_fingerprint, str(num_texts))
            found[key] = round(num_texts * (TOKENISED_ROW_BYTES + TOKEN_BYTES * read.mean_tokens))
    return sum(found.values())


def _check_disks(store: Path, needed: int, cache: Path, cached: int, num_phases: int) -> None:
    """Raise for the first disk without enough space; if store and cache share a disk, their needs are added."""
    same = _existing(store).stat().st_dev == _existing(cache).stat().st_dev
    both = needed + (cached if same else 0)
    if both > (free := shutil.disk_usage(_existing(store)).free):
        raise PrerequisiteError(
            f"--store {store}: the {num_phases} missing phases may write {_gib(both)}, its disk has "
            f"{_gib(free)} free; free some space, give a folder on another disk with --store, or ask for fewer models"
        )
    if not same and cached > (free := shutil.disk_usage(_existing(cache)).free):
        raise PrerequisiteError(
            f"{cache}: prepared texts may take {_gib(cached)} there, its disk has {_gib(free)} free; free some space, "
            "or give a folder on another disk with MOODBENCH_CACHE"
        )


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def _check_memory(
    trials: Sequence[PlannedTrial],
    sizes: Mapping[str, DataSize],
    shapes: Mapping[str, Shape | None],
    context: RunContext,
) -> None:
    """Raise for the first phase that alone needs more memory than its device has, or on the CPU more than is free."""
    free = free_memory_bytes()
    classes: dict[Device, DeviceClass] = {}
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    for planned in trials:
        fit, measure = planned.trial.fit, planned.trial.measure
        if fit.model.method != "baseline" and fit.model.name not in known:
            continue  # no shape is known for this kind of model, so there is no estimate
        if measure.device not in classes:
            classes[measure.device] = class_here(context.machine, measure.device, context.catalogue)
        device = classes[measure.device]
        estimator = Estimator(known, {fit.dataset.name: sizes[fit.dataset.revision]})
        asked = partial(
            estimator.trial,
            fit,
            device,
            measure.protocol,
            batch_size=planned.trial.evaluate.batch_size,
            inference_dtype=measure.dtype,
        )
        estimate = asked()
        for phase in planned.missing:
            lacking = _lacking(planned, phase, estimate, device, free, context.machine)
            if lacking and phase == "fit" and measure.device != "cpu":
                lacking += f"; {_remedy(asked(may_change=True))}"
            if lacking:
                raise PrerequisiteError(f"{planned.trial.label}{lacking}")


def _lacking(
    planned: PlannedTrial,
    phase: PhaseName,
    estimate: TrialEstimate,
    device: DeviceClass,
    free: int,
    machine: Hardware,
) -> str:
    """Return what `phase` lacks, as text to follow the name of the trial; empty if it fits."""
    part, train = estimate.phase(phase), planned.trial.fit.train
    if device.device == "cpu":
        if part.memory_bytes <= free:
            return ""
        smaller = (
            f"; or train with a max_device_batch_size below {train.max_device_batch_size}"
            if phase == "fit" and train
            else ""
        )
        return (
            f": {GERUNDS[phase]} needs about {_gib(part.memory_bytes)} of memory, {_gib(free)} of "
            f"{_gib(machine.memory_bytes)} are free; close other programs, or leave the model out{smaller}"
        )
    if phase == "fit":
        return f" on {device.description}: {estimate.reason}" if estimate.reason else ""
    needed = part.gpu_memory_bytes if device.device == "cuda" else part.memory_bytes
    available = machine.memory_bytes if device.gpu_memory_gib is None else round(device.gpu_memory_gib * GIB)
    if needed <= available:
        return ""
    return (
        f" on {device.description}: {GERUNDS[phase]} needs {_gib(needed)}, it has {_gib(available)}; leave the model "
        "out, or find a device that fits it with `moodbench plan --device-class`"
    )


def _remedy(changed: TrialEstimate) -> str:
    """Return what makes the fit possible on the same device, or how to find another one."""
    if changed.reason or changed.placement is None:
        return "leave the model out, or find a device that fits it with `moodbench plan --device-class`"
    return f"it fits with {options_for(changed.placement)}"


def _shape_of(model: ResolvedModel) -> Shape | None:
    """Return the shape that config.json states; None for an unknown kind of model.

    For a hub model, the file is that in the hub's cache.
    """
    assert model.source is not None
    if model.source.hub:
        return known_shape(json.loads((locate(model.name, model.source).folder / "config.json").read_text("utf-8")))
    return known_shape(config_of(model.name, model.source))


def check_models(fits: Iterable[FitSpec], *, cuda: bool = False) -> list[str]:
    """Return what a reader should know about the models of `fits`, such as a head that is not used.

    Answers are cached under the digests of all files that were read, so that each model is loaded once. With `cuda`,
    the GPUs of this machine are checked too.

    Raises: PrerequisiteError if the installed torch cannot use a GPU of this machine, or for the first model whose
    files are damaged or do not suit each other, the recipe or the dataset.
    """
    by_key = {_key_of(fit): fit for fit in fits if fit.model.method != "baseline"}
    known = {key: notes for key in by_key if (notes := _cached(key)) is not None}
    new = {key: fit for key, fit in by_key.items() if key not in known}
    if new or cuda:
        known |= _checked(new, ["cuda"] if cuda else [])
    return list(dict.fromkeys(note for key in by_key for note in known[key]))


def _key_of(fit: FitSpec) -> str:
    """Return the key of everything that the check reads."""
    value = fit.model_dump(mode="json", include={"text", "lora", "target_modules", "prompt"})
    value["model"] = fit.model.model_dump(mode="json", exclude={"source", "revision"})
    value |= {"labels": fit.dataset.labels, "code_version": MODEL_CHECK_VERSION}
    return content_id("model_check", value | {name: library_version(name) for name in LIBRARIES})


def _path_of(key: str) -> Path:
    return cache_folder() / "checks" / f"{key}.json"


def _cached(key: str) -> list[str] | None:
    try:
        notes = json.loads(_path_of(key).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return [str(note) for note in notes] if isinstance(notes, list) else None


def _checked(fits: Mapping[str, FitSpec], arguments: Sequence[str]) -> dict[str, list[str]]:
    """Return the notes of each model, by key, after a check in another process."""
    done = subprocess.run(
        [sys.executable, "-m", "moodbench.models.check", *arguments],
        input="".join(f"{_on_this_disk(fit).model_dump_json()}\n" for fit in fits.values()),
        env=environment_of(1),
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    answers: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    for answer in answers:
        if "error" in answer:
            raise PrerequisiteError(answer["error"])
    found = {key: list(answer["notes"]) for key, answer in zip(fits, answers, strict=False)}
    if len(answers) < len(fits):
        raise PrerequisiteError(_reason_of_crash(list(fits.values())[len(answers)], done))
    for key, notes in found.items():
        with suppress(OSError), atomic_write(_path_of(key)) as file:  # The cache only saves time.
            file.write(json.dumps(notes).encode())
    return found


def _on_this_disk(fit: FitSpec) -> FitSpec:
    """Return `fit` with the cached files of a hub model as its source, so that the check asks no hub."""
    source = fit.model.source
    if source is None or not source.hub:
        return fit
    folder = str(locate(fit.model.name, source).folder)
    cached = ModelSource(path=folder, trust_remote_code=source.trust_remote_code, sha256=source.sha256)
    return fit.model_copy(update={"model": fit.model.model_copy(update={"source": cached})})


def _reason_of_crash(fit: FitSpec, done: subprocess.CompletedProcess[str]) -> str:
    source = fit.model.source
    where = (source and (source.hub or source.path or source.package)) or fit.model.name
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reason = lines[-1] if lines else f"its process ended with code {done.returncode}"
    library = f"transformers {library_version('transformers')}"
    return (
        f"model {fit.model.name}: {where} cannot be loaded by {library} ({reason}); get the whole checkpoint of one "
        "model, or choose another"
    )


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / GIB:.2f} GiB"
