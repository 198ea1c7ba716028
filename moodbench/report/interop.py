"""The leaderboard in the formats of other tools: Hugging Face model cards, Every Eval Ever, LaTeX.

They contain no text of a dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
import yaml

from moodbench import __version__
from moodbench.report.formatting import COLUMNS, cells, missing, track_facts
from moodbench.report.leaderboard_view import LeaderboardView
from moodbench.report.notes import effect_sentence
from moodbench.statistics.overall import OVERALL
from moodbench.store import Store

EEE_SCHEMA_VERSION = "0.3.0"
"""Version of the record schema of Every Eval Ever.

Source: schemas/eval.schema.json of the package every-eval-ever 0.3.0, from github.com/evaleval/every_eval_ever.
"""
METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "f1_macro": ("f1", "Macro F1"),
    "precision_macro": ("precision", "Macro precision"),
    "recall_macro": ("recall", "Macro recall"),
}
"""Leaderboard column to the metric's name in the `evaluate` library and its heading; higher is better."""
LATEX_COLUMNS = (
    "rank", "name", "score", "accuracy", "f1_macro", "latency_p50_s", "throughput_texts_per_s",
    "memory_peak_batch1_bytes", "train_time_s", "num_params",
)  # fmt: skip
_LATEX = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    "—": "--", "–": "--", "−": "$-$", "·": r"$\cdot$", "×": r"$\times$",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


class Evaluated(NamedTuple):
    """One entry of one track, with what its records say about model and dataset."""

    row: pd.Series[Any]
    spec: dict[str, Any]
    ended_at: pd.Timestamp

    @property
    def hub_data(self) -> dict[str, Any] | None:
        """Hub repository of the dataset, None where it has none."""
        found: dict[str, Any] | None = self.spec["dataset"].get("hub")
        return found

    @property
    def on_hub(self) -> bool:
        """Whether the base model is a hub repository."""
        return bool((self.spec["model"]["source"] or {}).get("hub"))

    @property
    def model_id(self) -> str:
        """Hub repository of the base model, or the model's name where it has none."""
        return str(self.spec["model"]["source"]["hub"] if self.on_hub else self.row["model"])


def evaluated(view: LeaderboardView, store: Store) -> Iterator[Evaluated]:
    """Yield every entry of every track, without the rows of `overall`."""
    fits = store.sound_records("fits")[0].set_index("fit_id")
    evaluations = store.sound_records("evaluations")[0].set_index("evaluation_id")
    for _, row in view.rows.iterrows():
        if row["dataset"] != OVERALL:
            spec = json.loads(fits.loc[row["fit_ids"][0], "spec"])
            yield Evaluated(row, spec, evaluations.loc[row["evaluation_ids"], "ended_at"].max())


def model_index(each: Evaluated) -> bytes:
    """Return the metadata block of a Hugging Face model card, with the results on one track as its `model-index`.

    Values are shares from 0 to 1, means over seeds. A dataset that is not on the hub has the type `custom`.
    """
    row, hub = each.row, each.hub_data
    data: dict[str, Any] = {"type": hub["id"] if hub else "custom", "name": row["dataset"], "split": "test"}
    if hub and hub.get("config"):
        data["config"] = hub["config"]
    if hub and hub.get("revision"):
        data["revision"] = hub["revision"]
    metrics = [
        {"type": kind, "name": heading, "value": float(row[column])}
        for column, (kind, heading) in METRICS.items()
        if not missing(row[column])
    ]
    task = {"type": "text-classification", "name": "Sentiment analysis"}
    results = [{"task": task, "dataset": data, "metrics": metrics}]
    document: dict[str, Any] = {"pipeline_tag": "text-classification", "library_name": "moodbench"}
    if each.model_id != row["model"]:
        document["base_model"] = each.model_id
    document["model-index"] = [{"name": str(row["name"]), "results": results}]
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()


def hub_results(each: Evaluated) -> bytes | None:
    """Return the entries of `.eval_results/*.yaml`; None for a dataset that is not on the hub.

    The task id is the configuration of the dataset; a hub leaderboard accepts those that its `eval.yaml` names.
    """
    hub, row = each.hub_data, each.row
    if hub is None:
        return None
    dataset = {"id": hub["id"], "task_id": hub.get("config") or "default"}
    if hub.get("revision"):
        dataset["revision"] = hub["revision"]
    notes = (
        f"accuracy, {row['method']}, {int(row['num_train'])} training texts, {int(row['num_seeds'])} seeds, "
        f"moodbench {__version__}"
    )
    entry = {"dataset": dataset, "value": float(row["accuracy"]), "date": each.ended_at.isoformat(), "notes": notes}
    return yaml.safe_dump([entry], sort_keys=False, allow_unicode=True).encode()


def every_eval_ever(each: Evaluated) -> bytes:
    """Return the results of one entry on one track as a record of Every Eval Ever.

    The record is deterministic: its time is that of the evaluation.
    """
    row = each.row
    written = str(each.ended_at.timestamp())
    details = {
        "method": row["method"],
        "num_train": int(row["num_train"]),
        "num_seeds": int(row["num_seeds"]),
        "config_id": row["config_id"],
        "fit_ids": " ".join(row["fit_ids"]),
        "deployment_type": "self_deployed",
        "model_availability": "open_weights" if each.on_hub else "unknown",
    }
    model: dict[str, Any] = {"name": str(row["name"]), "id": each.model_id, "inference_platform": "local"}
    if "/" in each.model_id:
        model["developer"] = each.model_id.split("/")[0]
    document = {
        "schema_version": EEE_SCHEMA_VERSION,
        "evaluation_id": f"{row['dataset']}/{each.model_id}/{written}",
        "evaluation_timestamp": each.ended_at.isoformat(),
        "retrieved_timestamp": written,
        "source_metadata": {
            "source_name": "MoodBench",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "third_party",
        },
        "model_info": model | {"additional_details": {name: str(value) for name, value in details.items()}},
        "eval_library": {"name": "moodbench", "version": __version__},
        "evaluation_results": [_eee_result(each, column) for column in METRICS if not missing(row[column])],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _eee_result(each: Evaluated, column: str) -> dict[str, Any]:
    row, hub, (kind, heading) = each.row, each.hub_data, METRICS[column]
    source: dict[str, Any] = {"dataset_name": row["dataset"], "source_type": "hf_dataset" if hub else "other"}
    if hub:
        source |= {"hf_repo": hub["id"], "hf_split": "test", "samples_number": int(row["num_test"])}
        source["additional_details"] = {key: str(hub[key]) for key in ("config", "revision") if hub.get(key)}
    uncertainty: dict[str, Any] = {"num_samples": int(row["num_test"])}
    if column in ("accuracy", "f1_macro") and not missing(row.get(f"{kind}_low")):
        method = row["interval_method"] if column == "accuracy" else "smoothed bootstrap"
        uncertainty["confidence_interval"] = {
            "lower": float(row[f"{kind}_low"]),
            "upper": float(row[f"{kind}_high"]),
            "confidence_level": 0.95,
            "method": f"{method} ({row['estimand']})",
        }
    return {
        "evaluation_name": f"{row['dataset']} - {heading}",
        "source_data": source,
        "evaluation_timestamp": each.ended_at.isoformat(),
        "metric_config": {
            "evaluation_description": f"{heading}, mean over {int(row['num_seeds'])} seeds",
            "metric_id": column,
            "metric_name": heading,
            "metric_kind": kind,
            "metric_unit": "proportion",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": 1.0,
        },
        "score_details": {"score": float(row[column]), "uncertainty": uncertainty},
    }


def latex(view: LeaderboardView) -> bytes:
    """Return one booktabs table per track, for `\\input`; needs the package booktabs."""
    parts = [f"% MoodBench {__version__}; needs \\usepackage{{booktabs}}"]
    columns = [column for column in COLUMNS if column.key in LATEX_COLUMNS]
    headings = [column.heading for column in columns]
    for name in view.tracks:
        rows, pairs = view.track(name), view.pairs_of(name)
        caption = f"{name}. {track_facts(rows)}" + ("" if pairs is None else f". {effect_sentence(pairs)}")
        parts += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escaped(caption)}}}",
            rf"\begin{{tabular}}{{{''.join('l' if heading == 'Model' else 'r' for heading in headings)}}}",
            r"\toprule",
            _latex_row(headings),
            r"\midrule",
            *map(_latex_row, cells(rows, columns).to_numpy().tolist()),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    parts += [f"% {note}" for note in view.notes]
    return ("\n".join(parts) + "\n").encode()


def _latex_row(texts: Sequence[str]) -> str:
    return " & ".join(map(_escaped, texts)) + r" \\"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in str(text))
