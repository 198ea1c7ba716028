"""Trials as TensorBoard folders, one per fit: its loss and validation curves, and its scores."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from moodbench.tracking.trials import TrackedRecord, TrackedTrial


def log_to_tensorboard(trials: Iterable[TrackedTrial], folder: Path) -> int:
    """Write the new records of `trials` to `folder`, and return how many trials had some.

    Each record is one event file, named by its time and id. It is renamed into place, so an existing file is complete.
    """
    num_new = 0
    for trial in trials:
        place = folder / trial.dataset / trial.model / f"seed{trial.seed}-{trial.fit_id[:8]}"
        missing = [(record, path) for record in trial.records if not (path := place / _name(record)).exists()]
        for record, path in missing:
            place.mkdir(parents=True, exist_ok=True)
            _write(record, path)
        num_new += bool(missing)
    return num_new


def _name(record: TrackedRecord) -> str:
    return f"events.out.tfevents.{int(record.at.timestamp()):010d}.{record.id}"


def _write(record: TrackedRecord, path: Path) -> None:
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as made:
        writer = EventsWriter(str(Path(made) / "events"))
        for point in sorted(record.points, key=lambda p: p.step):
            event = Event(wall_time=record.at.timestamp(), step=point.step, summary=scalar(point.name, point.value))
            writer.write_event(event)
        writer.close()
        (written,) = Path(made).iterdir()
        written.replace(path)
