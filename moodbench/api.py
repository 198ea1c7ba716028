"""MoodBench from Python: run, leaderboard, load_predictor. Also reached as `moodbench.run` and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from moodbench.benchmark.data_reports import data_reports
from moodbench.benchmark.driver import Listener, RunSummary
from moodbench.benchmark.run import ExecutorName, cluster_site, prepare
from moodbench.benchmark.run import run as run_trials
from moodbench.comparison.composite import Weights
from moodbench.config import load_catalogue
from moodbench.config.cluster import read_cluster_file
from moodbench.hardware import hardware
from moodbench.serving.classifier import Classifier, Prediction, open_classifier
from moodbench.spec import spec_of_preset
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.store import Store
from moodbench.visualization.board_view import EXPORTED, view_board

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
    """How the run ended: `num_committed` records and `failures`, one line per trial that lacks some of its records.

    Runs what has no record in `store` yet, as `moodbench run` does: a `preset`, or `models` on `datasets`. `seeds` is a
    number (0 to seeds - 1) or the seeds themselves. `config` is a YAML file or folder over the catalogue. Other `fields`
    are those of BenchmarkSpec: max_train_examples, max_validation_examples, neutral_band, protocol, device, lora, train,
    and for data of your own or hub:OWNER/NAME, text_column, label_column, label_map, labels, data_name, and split_column
    and group_column of a file or data_config and splits of the hub.
    `address` names a Ray cluster (HOST:PORT of its head, or auto on one of its nodes) and `cluster` its file.
    `listen` hears every event of the run; a `data_report` on each data set from a file or the hub comes second. What is wrong with the request is raised as MoodBenchError before anything runs.
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
    opened, hear = Store.open(store), listen or _ignore
    if address is not None:
        rules = read_cluster_file(Path(cluster) if cluster is not None else None, catalogue.devices)
        with closing(cluster_site(address, opened, rules, said="address")) as site:
            trials, plan = prepare(spec, catalogue, opened, site.machine)
            reports = data_reports(trials, catalogue) if plan.trials else []
            how: dict[str, Any] = {"site": site, "catalogue": catalogue, "reports": reports, "listen": hear}
            return run_trials(trials, plan, opened, site.machine, **how)
    machine = hardware()
    trials, plan = prepare(spec, catalogue, opened, machine)
    reports = data_reports(trials, catalogue) if plan.trials else []
    how = {"executor": executor, "catalogue": catalogue, "reports": reports, "listen": hear}
    return run_trials(trials, plan, opened, machine, **how)


def leaderboard(
    store: str | Path = "results",
    *,
    dataset: str | None = None,
    weights: Mapping[str, float] | None = None,
    composite: Literal["pinned", "minmax", "geomean", "none"] = "pinned",
) -> pd.DataFrame:
    """The board of `store`, best first within each track, with the columns of `moodbench leaderboard --csv` in base units.

    `weights` says what counts, adding up to 1: {"accuracy": 0.6, "latency": 0.4}; what is not named counts nothing.
    `composite` is how the score is made, as `moodbench leaderboard --composite` has it; with "none" there is no score.
    What must be said beside the figures is in `.attrs["notes"]`. Without results the frame has no rows.
    """
    chosen = Weights.parse(",".join(f"{k}={v!r}" for k, v in weights.items())) if weights else None
    view = view_board(Store.open(store), hardware(), weights=chosen, composite=composite, dataset=dataset)
    board = pd.DataFrame(view.to_records(), columns=EXPORTED)
    board.attrs["notes"] = list(view.notes)
    return board


def load_predictor(
    model: str, store: str | Path = "results", *, device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
) -> Classifier:
    """The fitted contender `model` of `store`, ready to `.predict(texts)`; `.fit` says which fit it is.

    `model` is a fit's id, or a model's name, which means its fit with the most training texts, then the lowest seed.
    A transformer takes torch's threads of this process to the number of physical cores.
    """
    return open_classifier(Store.open(store), model, device)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _ignore(event: Mapping[str, Any]) -> None:
    """Nothing; the events of a run are in its store as well."""
