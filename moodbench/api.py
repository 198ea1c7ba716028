"""The Python API: `run`, `leaderboard` and `load_predictor`, also available as `moodbench.run` and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from moodbench.benchmark.context import ExecutorName, RunContext, cluster_target, ignore
from moodbench.benchmark.driver import Listener, RunSummary
from moodbench.config import load_catalogue
from moodbench.config.cluster import read_cluster_file
from moodbench.hardware import hardware
from moodbench.report.leaderboard_view import EXPORTED, view_leaderboard
from moodbench.serving.classifier import Classifier, Prediction, open_classifier
from moodbench.spec import BenchmarkSpec, spec_of_preset
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.statistics.composite import Weights
from moodbench.store import Store

__all__ = ["Classifier", "Prediction", "RunSummary", "leaderboard", "load_predictor", "run"]


def run(
    models: str | Sequence[str] | None = None,
    datasets: str | Sequence[str] | None = None,
    *,
    preset: str | None = None,
    store: str | Path = "results",
    seeds: int | Sequence[int] | None = None,
    config: str | Path | None = None,
    executor: ExecutorName = "ray",
    address: str | None = None,
    cluster: str | Path | None = None,
    listen: Listener | None = None,
    **fields: Any,
) -> RunSummary:
    """Run the trials that have no record in `store` yet, as `moodbench run` does, and return how the run ended.

    The trials are those of a `preset`, or of `models` on `datasets`. The summary holds `num_committed`, the number of
    committed records, and `failures`, one line per trial that lacks some of its records.

    `seeds` is a number (0 to seeds - 1) or the seeds themselves. `config` is a YAML file or folder that is merged over
    the catalogue. `address` is a Ray cluster (HOST:PORT of its head, or auto on one of its nodes), and `cluster` is the
    file that describes it. `listen` is called with every event of the run; a `data_report` for each dataset from a file
    or the hub directly follows the first event, `run_started`.

    Other `fields` are those of BenchmarkSpec: max_train_examples, max_validation_examples, neutral_band, protocol,
    device, lora and train. For your own data or hub:OWNER/NAME they include text_column, label_column, label_map,
    labels and data_name; for a file, split_column and group_column; for the hub, data_config and splits.

    Raises: MoodBenchError if the request is invalid, before anything runs.
    """
    catalogue = load_catalogue(Path(config) if config is not None else None)
    given: dict[str, Any] = dict(fields)
    if models is not None:
        given["models"] = _names(models)
    if datasets is not None:
        given["datasets"] = _names(datasets)
    if seeds is not None:
        given["seeds"] = seeds if isinstance(seeds, int) else tuple(seeds)
    spec = spec_of_preset(preset, catalogue, given) if preset else spec_from_values(given, "moodbench.run")
    opened, listen = Store.open(store), listen or ignore
    if address is None:
        return _run(spec, RunContext(opened, catalogue, hardware(), executor=executor, listen=listen))
    rules = read_cluster_file(Path(cluster) if cluster is not None else None, catalogue.devices)
    with closing(cluster_target(address, opened, rules, source="address")) as target:
        return _run(spec, RunContext(opened, catalogue, target.machine, target, listen=listen))


def _run(spec: BenchmarkSpec, context: RunContext) -> RunSummary:
    plan = context.plan(context.resolve(spec))
    return context.run(plan, context.reports(plan))


def leaderboard(
    store: str | Path = "results",
    *,
    dataset: str | None = None,
    weights: Mapping[str, float] | None = None,
    composite: Literal["pinned", "minmax", "geomean", "none"] = "pinned",
) -> pd.DataFrame:
    """Return the leaderboard of `store` with the columns of `moodbench leaderboard --csv`, in base units.

    Rows are sorted best first within each dataset and number of training texts; without results there are none.
    `weights` maps criteria to weights that add up to 1, such as {"accuracy": 0.6, "latency": 0.4}; the weight of a
    criterion left out is 0. `composite` selects how the score is computed, as in `moodbench leaderboard --composite`;
    with "none" there is no score. The notes that belong beside the numbers are in `.attrs["notes"]`.
    """
    chosen = Weights.parse(",".join(f"{k}={v!r}" for k, v in weights.items())) if weights else None
    view = view_leaderboard(Store.open(store), hardware(), weights=chosen, composite=composite, dataset=dataset)
    board = pd.DataFrame(view.to_records(), columns=EXPORTED)
    board.attrs["notes"] = list(view.notes)
    return board


def load_predictor(
    model: str, store: str | Path = "results", *, device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
) -> Classifier:
    """Load a fitted model of `store` as a classifier with `.predict(texts)`; its `.fit` identifies the fit.

    `model` is a fit id, or a model name, which selects that model's fit with the most training texts, then the lowest
    seed. Loading a transformer sets the number of torch threads of this process to the number of physical cores.
    """
    return open_classifier(Store.open(store), model, device)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
