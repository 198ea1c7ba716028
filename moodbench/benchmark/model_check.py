"""Check of every model of a plan before anything runs, in a process of its own, which may load torch or crash."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from moodbench.benchmark.plan import PlannedTrial
from moodbench.cache import atomic_write, cache_folder
from moodbench.config.schema import ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.hardware import library_version
from moodbench.models.locate import locate
from moodbench.runtime.process import environment_of
from moodbench.spec import FitSpec
from moodbench.spec.resolved import content_id

CODE_VERSION = 1
"""Version of the check; a new one makes the cached answers void."""
LIBRARIES = ("moodbench", "torch", "transformers", "tokenizers", "peft")


def check_models(trials: Iterable[PlannedTrial], *, here: bool = True) -> list[str]:
    """Return what a reader should know about the models of `trials`, such as a head that is not used.

    Answers are cached under the digests of all files that were read, so that each model is loaded once. If the trials
    run `here` and use CUDA, the GPUs are checked too.

    Raises: PrerequisiteError if the installed torch cannot use a GPU of this machine, or for the first model whose
    files are damaged or do not suit each other, the recipe or the dataset.
    """
    trials = list(trials)
    cuda = here and any(planned.trial.measure.device == "cuda" for planned in trials)
    fits = {_key_of(p.trial.fit): p.trial.fit for p in trials if p.trial.fit.model.method != "baseline"}
    known = {key: notes for key in fits if (notes := _cached(key)) is not None}
    new = {key: fit for key, fit in fits.items() if key not in known}
    if new or cuda:
        known |= _checked(new, ["cuda"] if cuda else [])
    return list(dict.fromkeys(note for key in fits for note in known[key]))


def _key_of(fit: FitSpec) -> str:
    """Return the key of everything that the check reads."""
    value = fit.model_dump(mode="json", include={"text", "lora", "target_modules", "prompt"})
    value["model"] = fit.model.model_dump(mode="json", exclude={"source", "revision"})
    value |= {"labels": fit.dataset.labels, "code_version": CODE_VERSION}
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
