"""The Python API: `run`, `leaderboard` and `load_predictor`, also available as `moodbench.run` and so on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from moodbench.benchmark.context import ExecutorName, RunContext, cluster_target, ignore
from moodbench.benchmark.driver import Listener, RunSummary
from moodbench.config import load_catalogue
from moodbench.config.cluster import read_cluster_file
from moodbench.config.schema import InferenceDtype
from moodbench.errors import UsageError
from moodbench.hardware import hardware
from moodbench.report.leaderboard_view import EXPORTED, view_leaderboard
from moodbench.serving.classifier import Classifier, Prediction, open_classifier
from moodbench.spec import BenchmarkSpec, spec_of_preset
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.statistics.composite import Weights
from moodbench.store import Store

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
PATH = "a path, as text or pathlib.Path"

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
    _check("executor", executor, lambda x: x in get_args(ExecutorName), " or ".join(map(repr, get_args(ExecutorName))))
    _check("listen", listen, lambda x: x is None or callable(x), "a function of one event")
    for name, value in {"preset": preset, "address": address}.items():
        _check(name, value, _is_text_or_none, "a text")
    for name, path in {"config": config, "cluster": cluster}.items():
        _check(name, path, lambda x: x is None or _is_path(x), PATH)
    _check("cluster", cluster, lambda x: x is None or address is not None, "None without an address")
    catalogue = load_catalogue(Path(config) if config is not None else None)
    given: dict[str, Any] = dict(fields)
    if models is not None:
        given["models"] = _names("models", models)
    if datasets is not None:
        given["datasets"] = _names("datasets", datasets)
    if seeds is not None:
        _check("seeds", seeds, _is_whole_or_list, "a whole number, or a list of them")
        given["seeds"] = seeds if isinstance(seeds, int) else tuple(seeds)
    spec = spec_of_preset(preset, catalogue, given) if preset else spec_from_values(given, "moodbench.run")
    opened, listen = _opened(store), listen or ignore
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
    _check("dataset", dataset, _is_text_or_none, "a name")
    _check("composite", composite, lambda x: isinstance(x, str), "a name")
    _check("weights", weights, lambda x: x is None or isinstance(x, Mapping), "a mapping of criteria to numbers")
    chosen = Weights.parse(",".join(f"{k}={v}" for k, v in weights.items())) if weights else None
    view = view_leaderboard(_opened(store), hardware(), weights=chosen, composite=composite, dataset=dataset)
    board = pd.DataFrame(view.to_records(), columns=EXPORTED)
    board.attrs["notes"] = list(view.notes)
    return board


def load_predictor(
    model: str,
    store: str | Path = "results",
    *,
    device: DeviceName = "auto",
    inference_dtype: InferenceDtype = "auto",
) -> Classifier:
    """Load a fitted model of `store` as a classifier with `.predict(texts)`; its `.fit` identifies the fit.

    `model` is a fit id, or a model name, which selects that model's fit with the most training texts, then the lowest
    seed. `inference_dtype` is the number format of its weights; "auto" is that in which they were trained, on the CPU
    float32. Loading a transformer sets the number of torch threads of this process to the number of physical cores.
    """
    _check("model", model, lambda x: isinstance(x, str), "the name of a model, or a fit id")
    _check("device", device, lambda x: x in get_args(DeviceName), ", ".join(get_args(DeviceName)))
    formats = get_args(InferenceDtype)
    _check("inference_dtype", inference_dtype, lambda x: x in formats, ", ".join(formats))
    return open_classifier(_opened(store), model, device, inference_dtype)


def _opened(store: str | Path) -> Store:
    _check("store", store, _is_path, f"{PATH}, or a URI")
    return Store.open(store)


def _names(argument: str, given: str | Sequence[str]) -> tuple[str, ...]:
    _check(argument, given, lambda x: isinstance(x, Iterable), "a name, or a list of names")
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        _check(argument, name, lambda x: isinstance(x, str), "a name, or a list of names")
    return names


def _is_path(value: object) -> bool:
    return isinstance(value, str | Path)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_whole_or_list(value: object) -> bool:
    return isinstance(value, int | Iterable) and not isinstance(value, bool | str | bytes | Mapping)


def _check(argument: str, value: object, is_right: Callable[[Any], bool], expected: str) -> None:
    """Raise UsageError unless `value` is right for an argument, which annotations alone do not ensure."""
    if not is_right(value):
        raise UsageError(f"{argument}: is {repr(value)[:200]}, of type {type(value).__name__}; expected {expected}")
