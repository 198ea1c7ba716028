"""Checkpoints of a long fit: written periodically and atomically, and resumed by the next attempt.

A checkpoint is what transformers.Trainer writes (adapter, optimiser, scheduler, random state, history), followed by a
manifest with the size and SHA-256 of every file. The order of the texts needs no state, as it depends only on the seed
and the epoch. An attempt never writes in the folder of another. It copies the checkpoint that it resumes from, and uses
only a copy that matches its manifest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from moodbench.hardware import Device, library_version
from moodbench.spec.job import DEFAULT_CHECKPOINT_INTERVAL_S

if TYPE_CHECKING:
    from transformers import Trainer

MANIFEST = "moodbench.json"
LIBRARIES = ("torch", "transformers", "peft", "accelerate")
"""Libraries that must have the same version to resume; with another version the fit restarts."""


@dataclass(frozen=True)
class CheckpointArea:
    """Where one attempt at a fit writes its checkpoints, and where it looks for those of earlier attempts."""

    folder: Path
    peak_bytes: Callable[[], int]
    """Returns the peak memory of this process."""
    earlier: Sequence[Path] = ()
    """Folders of other attempts at the same fit; read-only."""
    interval_s: float = DEFAULT_CHECKPOINT_INTERVAL_S
    """Seconds of training between checkpoints; a shorter fit writes only its best checkpoints by validation score."""


class Manifest(BaseModel):
    """Manifest of a checkpoint: the fit it belongs to, its progress, and the digests of its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit_id: str
    device: str
    libraries: dict[str, str | None]
    step: int
    best_step: int | None
    """Step of the best checkpoint so far by validation score, kept in the same folder; None before validation."""
    elapsed_s: float
    """Training time so far, over all attempts."""
    validation_time_s: float
    """Part of `elapsed_s` spent on validation."""
    num_attempts: int
    peak_memory_bytes: int
    """Peak memory so far, over all attempts."""
    loss_sum: float
    """Sum of training losses since `loss_since_step` that are not yet a point of the learning curve."""
    loss_since_step: int
    files: dict[str, tuple[int, str]]
    """Size and SHA-256 of every file except the manifest."""


@dataclass(frozen=True)
class ResumedCheckpoint:
    """A checkpoint of an earlier attempt, copied to the folder of this attempt and verified."""

    folder: Path
    manifest: Manifest

    def validated(self, metric: str) -> list[tuple[int, float]]:
        """Return step and score of every validation run up to the checkpoint."""
        history = json.loads((self.folder / "trainer_state.json").read_text("utf-8"))["log_history"]
        return [(e["step"], e[f"eval_{metric}"]) for e in history if f"eval_{metric}" in e]


def resume_checkpoint(
    area: CheckpointArea, fit_id: str, device: Device, note: Callable[[str], None]
) -> ResumedCheckpoint | None:
    """Return the latest usable checkpoint of an earlier attempt at `fit_id`, or None.

    `note` is called with the reason for each checkpoint that is skipped.
    """
    for source in sorted(_checkpoints(area.earlier), key=_step_of, reverse=True):
        try:
            resumed = _copy(source, area.folder, fit_id, device)
            best = resumed.manifest.best_step
            if best is not None and best != resumed.manifest.step:
                _copy(source.with_name(f"checkpoint-{best}"), area.folder, fit_id, device)
        except _UnusableError as error:
            note(f"checkpoint of step {_step_of(source)} is not used: {error}")
            for half in area.folder.glob("checkpoint-*"):
                shutil.rmtree(half)
            continue
        return resumed
    return None


class CheckpointWriter:
    """Schedules the checkpoints of a trainer, completes each with its manifest, and deletes the ones it replaces."""

    def __init__(
        self,
        area: CheckpointArea,
        fit_id: str,
        device: Device,
        resumed: ResumedCheckpoint | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._area, self._fit_id, self._device, self._resumed, self._clock = area, fit_id, device, resumed, clock
        self._began = self._saved = clock()

    @property
    def num_attempts(self) -> int:
        """Number of attempts at the fit, including this one and those that it resumes."""
        return 1 + (self._resumed.manifest.num_attempts if self._resumed else 0)

    def elapsed_s(self) -> float:
        """Return the training time in seconds, including the attempts that this one resumes."""
        return self._clock() - self._began + (self._resumed.manifest.elapsed_s if self._resumed else 0.0)

    def peak_memory_bytes(self) -> int:
        """Return the peak memory in bytes, including the attempts that this one resumes."""
        return max(self._area.peak_bytes(), self._resumed.manifest.peak_memory_bytes if self._resumed else 0)

    def attach(self, trainer: Trainer) -> None:
        """Register the checkpoint callback with `trainer`."""
        from transformers import TrainerCallback

        writer = self

        class WriteCheckpoints(TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                writer.begin(trainer)

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                control.should_save = control.should_save or writer.is_due()

            def on_save(self, *_: Any, **__: Any) -> None:
                writer.complete(trainer)

        trainer.add_callback(WriteCheckpoints())

    def begin(self, trainer: Trainer) -> None:
        """Start the clock and, on resume, restore the state of `trainer` that transformers does not restore."""
        self._began = self._saved = self._clock()
        if self._resumed is None:
            return
        manifest, state = self._resumed.manifest, trainer.state
        if state.best_global_step is not None:
            state.best_model_checkpoint = str(self._area.folder / f"checkpoint-{state.best_global_step}")
        trainer._tr_loss += manifest.loss_sum
        trainer.validation_time_s += manifest.validation_time_s
        trainer._globalstep_last_logged = manifest.loss_since_step

    def is_due(self) -> bool:
        """Return whether the interval has passed since the last checkpoint."""
        return self._clock() - self._saved >= self._area.interval_s

    def complete(self, trainer: Trainer) -> None:
        """Add the manifest to the checkpoint that `trainer` has just written, and delete those it replaces."""
        state = trainer.state
        folder = self._area.folder / f"checkpoint-{state.global_step}"
        manifest = Manifest(
            fit_id=self._fit_id,
            device=self._device,
            libraries=_libraries(),
            step=state.global_step,
            best_step=state.best_global_step,
            elapsed_s=self.elapsed_s(),
            validation_time_s=trainer.validation_time_s,
            num_attempts=self.num_attempts,
            peak_memory_bytes=self.peak_memory_bytes(),
            loss_sum=trainer._tr_loss.item(),
            loss_since_step=trainer._globalstep_last_logged,
            files=_files(folder),
        )
        staged = folder / f"{MANIFEST}.part"
        staged.write_text(manifest.model_dump_json(), encoding="utf-8")
        staged.replace(folder / MANIFEST)
        kept = {state.global_step, state.best_global_step}
        for other in _checkpoints([self._area.folder]):
            if _step_of(other) not in kept:
                shutil.rmtree(other)
        self._saved = self._clock()


class _UnusableError(Exception):
    """Raised with the reason why a checkpoint cannot be resumed."""


def _copy(source: Path, target: Path, fit_id: str, device: Device) -> ResumedCheckpoint:
    """Return a copy of the checkpoint `source` in the folder `target`, verified against its manifest.

    Raises: _UnusableError if it is incomplete, unreadable or changed, or was made by another fit, on another device or
    with another library version.
    """
    folder = target / source.name
    try:
        shutil.copytree(source, folder)
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
        found = _files(folder)
    except FileNotFoundError as error:
        raise _UnusableError("it is incomplete, its writer was stopped") from error
    except (OSError, shutil.Error, UnicodeDecodeError, ValidationError) as error:
        raise _UnusableError(f"it cannot be read ({str(error).splitlines()[0]})") from error
    expected: Mapping[str, object] = {"fit": fit_id, "device": device, **_libraries()}
    written: Mapping[str, object] = {"fit": manifest.fit_id, "device": manifest.device, **manifest.libraries}
    for name in sorted({*expected, *written}):
        if expected.get(name) != written.get(name):
            raise _UnusableError(f"it was made with {name} {written.get(name)}, this is {name} {expected.get(name)}")
    for name in sorted({*manifest.files, *found}):
        if manifest.files.get(name) != found.get(name):
            raise _UnusableError(f"{name} is not as it was written")
    return ResumedCheckpoint(folder, manifest)


def _files(folder: Path) -> dict[str, tuple[int, str]]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in (MANIFEST, f"{MANIFEST}.part"))
    return {
        p.relative_to(folder).as_posix(): (p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files
    }


def _checkpoints(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (p for p in folder.glob("checkpoint-*") if p.name.partition("-")[2].isdigit() and p.is_dir())


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


def _libraries() -> dict[str, str | None]:
    return {name: library_version(name) for name in LIBRARIES}
