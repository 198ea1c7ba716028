"""Trials as MLflow runs, one per fit."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moodbench.tracking.trials import TrackedTrial

EXPERIMENT = "moodbench"
FIT, RECORDS = "moodbench.fit_id", "moodbench.records"
"""Tags of a run: its fit, and the ids of the records that were logged to it."""
BATCH = 500
"""Metrics per call; MLflow accepts at most 1,000 metrics and 100 parameters."""
_NO_FILES = "mlflow-artifacts:/moodbench"
"""Artifact location of runs. No artifacts are logged, but by default MLflow would record folders of this machine."""


def log_to_mlflow(trials: Iterable[TrackedTrial], uri: str) -> int:
    """Log the new records of `trials` to the MLflow at `uri`, and return how many trials had some.

    Exceptions of MLflow are passed on.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # By default, MLflow retries an unreachable server for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("_MLFLOW_SERVER_ARTIFACT_ROOT", _NO_FILES)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # an unreachable server is reported once, by us
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(EXPERIMENT)
    where = None if uri.startswith(("http:", "https:", "databricks")) else _NO_FILES
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=where)
    runs = _runs(client, experiment)
    return sum(bool(_log(client, experiment, trial, runs.get(trial.fit_id))) for trial in trials)


def _runs(client: Any, experiment: str) -> dict[str, Any]:
    """Return the runs of fits by fit id, including deleted ones, because a run that a user deleted stays deleted."""
    from mlflow.entities import ViewType

    runs: dict[str, Any] = {}
    token = None
    while True:
        page = client.search_runs([experiment], run_view_type=ViewType.ALL, max_results=1000, page_token=token)
        runs |= {run.data.tags[FIT]: run for run in page if FIT in run.data.tags}
        token = page.token
        if not token:
            return runs


def _log(client: Any, experiment: str, trial: TrackedTrial, run: Any) -> bool:
    """Log the new records of `trial` unless its run was deleted, and return whether any were logged."""
    known = set(run.data.tags.get(RECORDS, "").split(",")) if run else set()
    new = [record for record in trial.records if record.id not in known]
    if not new or (run and run.info.lifecycle_stage == "deleted"):
        return False
    from mlflow.entities import Metric, Param, RunTag

    if run is None:
        tags = {FIT: trial.fit_id, "moodbench.run_id": trial.run_id}
        run = client.create_run(experiment, _milliseconds(trial.started_at), tags, trial.name)
    metrics = [Metric(p.name, p.value, _milliseconds(r.at), p.step) for r in new for p in r.points]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + BATCH])
    # The tag comes last: after an interruption the same values are sent again, and MLflow stores them once.
    ids = ",".join(record.id for record in trial.records)
    params = [] if known else [Param(name, value) for name, value in trial.params.items()]
    client.log_batch(run.info.run_id, params=params, tags=[RunTag(RECORDS, ids)])
    client.set_terminated(run.info.run_id, "FINISHED", _milliseconds(max(record.at for record in trial.records)))
    return True


def _milliseconds(at: Any) -> int:
    return int(1000 * at.timestamp())
