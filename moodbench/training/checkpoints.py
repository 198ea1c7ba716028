"""Checkpoints of a long fit: written now and then, whole or not at all, and taken up by the attempt that comes next.

A checkpoint is what transformers.Trainer writes (adapter, optimiser, schedule, random state, history), and last a manifest
with the size and SHA-256 of every file. The order of the texts needs no state: it follows from the seed and the epoch.
An attempt never writes in another's folder: it copies what it takes up, and trusts only a copy that its manifest proves.
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

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

MANIFEST = "moodbench.json"
DEFAULT_INTERVAL_S = 60.0
LIBRARIES = ("torch", "transformers", "peft", "accelerate")
"""Another version of these may continue differently, so a fit is begun anew."""


@dataclass(frozen=True)
class CheckpointArea:
    """Where the checkpoints of one attempt at a fit go, and where those of earlier attempts may be."""

    folder: Path
    peak_bytes: Callable[[], int]
    """The most memory that this process has used."""
    earlier: Sequence[Path] = ()
    """Folders of other attempts at the same fit; read, never written."""
    interval_s: float = DEFAULT_INTERVAL_S
    """Seconds of training between checkpoints; a shorter fit writes only the states that validation prefers."""


class Manifest(BaseModel):
    """What proves a checkpoint: whose it is, and its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit_id: str
    device: str
    libraries: dict[str, str | None]
    step: int
    best_step: int | None
    """The step whose checkpoint validation prefers so far; it lies beside this one."""
    elapsed_s: float
    """Training time up to here, over all attempts."""
    validation_time_s: float
    """Part of it that validation took."""
    num_attempts: int
    peak_memory_bytes: int
    """Highest of the attempts up to here."""
    loss_sum: float
    """Training loss since `loss_since_step`, not yet a point of the curve."""
    loss_since_step: int
    files: dict[str, tuple[int, str]]
    """Size and SHA-256 of every other file."""


@dataclass(frozen=True)
class Taken:
    """A checkpoint of an earlier attempt, copied into this one's folder and proved."""

    folder: Path
    manifest: Manifest

    def validated(self, metric: str) -> list[tuple[int, float]]:
        """Step and score of the validations until then."""
        history = json.loads((self.folder / "trainer_state.json").read_text("utf-8"))["log_history"]
        return [(e["step"], e[f"eval_{metric}"]) for e in history if f"eval_{metric}" in e]


def take_up(area: CheckpointArea, fit_id: str, device: Device, note: Callable[[str], None]) -> Taken | None:
    """The most advanced whole checkpoint of an earlier attempt at `fit_id`, or None; `note` hears what was passed over."""
    for source in sorted(_checkpoints(area.earlier), key=_step_of, reverse=True):
        try:
            taken = _copy(source, area.folder, fit_id, device)
            best = taken.manifest.best_step
            if best is not None and best != taken.manifest.step:
                _copy(source.with_name(f"checkpoint-{best}"), area.folder, fit_id, device)
        except _UnusableError as error:
            note(f"checkpoint of step {_step_of(source)} is not used: {error}")
            for half in area.folder.glob("checkpoint-*"):
                shutil.rmtree(half)
            continue
        return taken
    return None


class Keeper:
    """Decides when a trainer writes checkpoints, completes each with its manifest, and removes those it replaces."""

    def __init__(
        self,
        area: CheckpointArea,
        fit_id: str,
        device: Device,
        taken: Taken | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._area, self._fit_id, self._device, self._taken, self._clock = area, fit_id, device, taken, clock
        self._began = self._saved = clock()

    @property
    def num_attempts(self) -> int:
        """This attempt and those whose work it continues."""
        return 1 + (self._taken.manifest.num_attempts if self._taken else 0)

    def elapsed_s(self) -> float:
        """Training time of this attempt and of the work it continues."""
        return self._clock() - self._began + (self._taken.manifest.elapsed_s if self._taken else 0.0)

    def peak_memory_bytes(self) -> int:
        """The highest peak of this process and of those whose work it continues."""
        return max(self._area.peak_bytes(), self._taken.manifest.peak_memory_bytes if self._taken else 0)

    def attach(self, trainer: Trainer) -> None:
        """Nothing; `trainer` is watched from now on."""
        trainer.add_callback(_callback(self, trainer))

    def begin(self, trainer: Trainer) -> None:
        """Nothing; starts the clock, and gives back to a trainer that resumes what transformers leaves out."""
        self._began = self._saved = self._clock()
        if self._taken is None:
            return
        manifest, state = self._taken.manifest, trainer.state
        if state.best_global_step is not None:
            state.best_model_checkpoint = str(self._area.folder / f"checkpoint-{state.best_global_step}")
        trainer._tr_loss += manifest.loss_sum
        trainer.validation_time_s += manifest.validation_time_s
        trainer._globalstep_last_logged = manifest.loss_since_step

    def is_due(self) -> bool:
        """Whether the interval has passed since the last checkpoint."""
        return self._clock() - self._saved >= self._area.interval_s

    def complete(self, trainer: Trainer) -> None:
        """Nothing; the checkpoint that `trainer` just wrote gets its manifest, and those it replaces go."""
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


def _callback(keeper: Keeper, trainer: Trainer) -> TrainerCallback:
    from transformers import TrainerCallback

    class Keeping(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            keeper.begin(trainer)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_save = control.should_save or keeper.is_due()

        def on_save(self, *_: Any, **__: Any) -> None:
            keeper.complete(trainer)

    return Keeping()


class _UnusableError(Exception):
    """A checkpoint that cannot be taken up, with the reason."""


def _copy(source: Path, target: Path, fit_id: str, device: Device) -> Taken:
    """A copy of the checkpoint `source` in the folder `target`, proved by its manifest."""
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
    return Taken(folder, manifest)


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
