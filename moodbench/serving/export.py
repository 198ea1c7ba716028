"""Export of a fit as a folder that transformers loads without MoodBench, with a model card.

The card shows the measured values of the fit from the store; missing values are marked as such.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from moodbench.analysis.trials import choose_machine, trials_frame
from moodbench.config import Catalogue
from moodbench.config.schema import DatasetEntry, InferenceDtype, ModelEntry
from moodbench.errors import PrerequisiteError, UsageError
from moodbench.hardware import hardware
from moodbench.models.base import LANGUAGE_MODELS
from moodbench.paths import user_path
from moodbench.report.formatting import count, duration, mebibytes, milliseconds, missing, percent, three_digits
from moodbench.serving.classifier import ChosenFit, choose_fit
from moodbench.spec import Prompt
from moodbench.statistics.intervals import wilson
from moodbench.store import Store

WHY_NOT = {
    "linear-probe": "is a linear layer on mean-pooled, normalised embeddings, for which transformers has no class, "
    "so a pipeline could not load it",
    "prompted": "is the published model itself with a template, and nothing was trained",
    "baseline": "is a classical baseline and no transformer, so a pipeline could not load it",
}
NOT_MEASURED = "not measured"
TASKS = {"causal": "text-generation", "masked": "fill-mask", "seq2seq": "text2text-generation"}
"""Task name on the hub (`pipeline_tag`) by kind of prompt."""
_NAMES = """
apache-2.0 mit openrail openrail++ bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 afl-3.0 gemma
bigcode-openrail-m artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0
cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 wtfpl
cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 zlib
cdla-permissive-1.0 cdla-permissive-2.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr isc lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl osl-3.0 postgresql ofl-1.1 pddl
ncsa unlicense deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
intel-research
"""
HUB_LICENCES = frozenset(_NAMES.split())
"""Identifiers that the hub accepts, besides `unknown` and `other`.

Source: https://huggingface.co/docs/hub/repositories-licenses.
"""
_ALIASES = {"gemma terms": "gemma", "llama 3.2 community": "llama3.2", "apache 2.0": "apache-2.0"}
_UNKNOWN = ("", "none", "unknown", "not stated", "not specified", "other")


@dataclass(frozen=True)
class CardFacts:
    """Input of a model card."""

    fit: ChosenFit
    trials: pd.DataFrame
    """Rows of `trials_frame`: evaluated fits of the same recipe, this one and other seeds; may be empty."""
    model: ModelEntry | None
    """Entry of the model in the catalogue, or None."""
    dataset: DatasetEntry | None


def export_model(
    store: Store, model: str, folder: Path, catalogue: Catalogue, inference_dtype: InferenceDtype = "auto"
) -> ChosenFit:
    """Export the fit that `model` names to `folder`, and return the fit.

    Weights are in the format `inference_dtype`; "auto" is that of the base weights in training.

    `folder` must be absent or empty. It appears when complete, with the merged weights, tokenizer and model card.
    Raises: UsageError if transformers cannot load the model or `folder` is not empty; PrerequisiteError if `folder`
    cannot be written.
    """
    fit = choose_fit(store, model)
    _check_exportable(fit)
    check_free(folder)
    artifact = store.artifact(fit.fit_id)
    # Imported here so that a refused request does not wait for torch.
    from moodbench.models.device import prepare_torch
    from moodbench.models.predictor import deployed_dtype
    from moodbench.models.transformer import save_merged

    prepare_torch(hardware().num_cores)
    target = user_path(folder)
    partial = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
    try:
        partial.mkdir(parents=True)
        plain = fit.spec.model_copy(update={"quantization": "none"})  # merging dequantises
        save_merged(fit.spec, artifact, partial, deployed_dtype(plain, "cuda", inference_dtype))
        (partial / "README.md").write_text(model_card(facts_of(store, fit, catalogue)), encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise PrerequisiteError(
            f"export-model {folder}: {error.strerror or error}; nothing was written there"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return fit


def _check_exportable(fit: ChosenFit) -> None:
    """Raise UsageError if transformers cannot load the model of `fit` or would label texts otherwise."""
    method = fit.spec.model.method
    if method in WHY_NOT:
        raise UsageError(
            f"export-model: {fit} {WHY_NOT[method]}; use `moodbench predict --model {fit.fit_id}` or "
            "moodbench.load_predictor; fine-tuned models can be exported (see `moodbench catalogue models`)"
        )
    if fit.spec.preparation:
        raise UsageError(
            f"export-model: {fit} reads texts after {', '.join(fit.spec.preparation)}, "
            f"which transformers would leave out; use `moodbench predict --model {fit.fit_id}` or "
            "moodbench.load_predictor"
        )


def check_free(folder: Path) -> None:
    """Raise UsageError if `folder` is a file or is not empty."""
    if folder.is_dir():
        held = sorted(p.name for p in folder.iterdir())
        if held:
            raise UsageError(f"export-model {folder}: is not empty (it holds {', '.join(held[:3])}); give a new folder")
    elif folder.exists() or folder.is_symlink():
        raise UsageError(f"export-model {folder}: is a file; give a new folder")


def facts_of(store: Store, fit: ChosenFit, catalogue: Catalogue) -> CardFacts:
    """Return the input of the model card: the records of this recipe, with speeds of this machine type if measured."""
    fits, evaluations, measurements = (store.records(kind) for kind in ("fits", "evaluations", "measurements"))
    fits = fits[fits["config_id"] == fit.record["config_id"]]
    evaluations = evaluations[evaluations["fit_id"].isin(fits["fit_id"])]
    own = measurements[measurements["fit_id"] == fit.fit_id]
    trials = trials_frame(fits, evaluations, choose_machine(own, hardware().machine_key))
    return CardFacts(
        fit,
        trials,
        catalogue.models.get(fit.spec.model.name),
        catalogue.datasets.get(fit.spec.dataset.name),
    )


def model_card(facts: CardFacts) -> str:
    """Return the model card in Markdown with its YAML header."""
    record, spec = facts.fit.record, facts.fit.spec
    own = facts.trials[facts.trials["fit_id"] == facts.fit.fit_id]
    parts = [
        _header(facts),
        f"# {record['model']}, fine-tuned on {record['dataset']}",
        f"Labels a text as {_listed(spec.dataset.labels)}. Made by MoodBench {_moodbench(record)} with LoRA; "
        "the adapter is merged into the weights, so transformers alone loads it. "
        f"All figures below were measured by MoodBench on this fit (`{facts.fit.fit_id}`).",
        "## Use",
        _use(facts),
        "## Quality",
        *_quality(own, facts),
        "## Speed and memory",
        *_speed(own),
        "## Training",
        _table(_training(facts)),
        "## Caveats",
        "\n".join(f"- {line}" for line in _caveats(own, facts)),
    ]
    return "\n\n".join(parts) + "\n"


def _header(facts: CardFacts) -> str:
    task = "text-classification" if facts.fit.spec.prompt is None else TASKS[facts.fit.spec.prompt.kind]
    lines = ["library_name: transformers", f"pipeline_tag: {task}", "tags: [sentiment-analysis, moodbench]"]
    lines += licence_lines(facts.model.licence if facts.model else None)
    return "\n".join(["---", *lines, "---"])


def licence_lines(licence: str | None) -> list[str]:
    """Return the lines of a card's header that state `licence`, always with an identifier that the hub accepts.

    A licence that nobody has checked, or that is not stated, is `unknown`; one that the hub has no identifier for is
    `other` with its name.
    """
    stated = licence or ""
    name = re.sub(r"\s*\([^)]*\)\s*$", "", stated).strip()
    known = _ALIASES.get(name.lower(), name.lower())
    if "unchecked" in stated or "not checked" in stated or known in _UNKNOWN:
        return ['license: "unknown"']
    if known in HUB_LICENCES:
        return [f"license: {json.dumps(known)}"]
    return ['license: "other"', f"license_name: {json.dumps(name)}"]


def _use(facts: CardFacts) -> str:
    text, prompt = facts.fit.spec.text, facts.fit.spec.prompt
    assert text is not None
    if prompt is not None:
        return (
            "This is a language model: the scores of label words after a template are its class scores; both are in "
            f"`label_words.json` beside the weights.\n\n```python\n{label_word_snippet(prompt)}\n```\n\n"
            f"Here a text is cut so that template and text are at most {text.max_length} tokens, "
            f"on the {text.truncation_side}; the snippet leaves longer texts whole."
        )
    return (
        "```python\nfrom transformers import pipeline\n\n"
        'classify = pipeline("text-classification", "PATH/TO/THIS/FOLDER")\n'
        'classify(["The plot is thin, the acting superb."], truncation=True)\n```\n\n'
        f"`truncation=True` cuts a text at {text.max_length} tokens on the {text.truncation_side}, "
        "as in training and in the figures below; without it a longer text gives other scores or an error."
    )


def label_word_snippet(prompt: Prompt, folder: str = "PATH/TO/THIS/FOLDER") -> str:
    """Return Python code that labels a text with an exported language model, using only transformers."""
    lines = [
        "import json, pathlib, torch",
        f"from transformers import {LANGUAGE_MODELS[prompt.kind]}, AutoTokenizer",
        "",
        f'folder = "{folder}"',
        'about = json.loads(pathlib.Path(folder, "label_words.json").read_text("utf-8"))',
        f"model, tokenizer = {LANGUAGE_MODELS[prompt.kind]}.from_pretrained(folder), "
        "AutoTokenizer.from_pretrained(folder)",
        'text = about["template"].replace("{text}", "The plot is thin, the acting superb.")',
    ]
    if prompt.kind == "causal":
        lines += [
            'ids = torch.tensor([tokenizer(text)["input_ids"] + about["ids_after_template"]])',
            "scores = model(ids).logits[0, -1].log_softmax(-1)",
        ]
    elif prompt.kind == "masked":
        lines += [
            'ids = tokenizer(text, return_tensors="pt")["input_ids"]',
            "scores = model(ids).logits[0, (ids[0] == tokenizer.mask_token_id).nonzero()[-1, 0]].log_softmax(-1)",
        ]
    else:
        lines += [
            'ids = tokenizer(text, return_tensors="pt")["input_ids"]',
            "start = torch.tensor([[model.config.decoder_start_token_id]])",
            "scores = model(ids, decoder_input_ids=start).logits[0, -1].log_softmax(-1)",
        ]
    lines.append(
        'print(about["labels"][max(range(len(about["labels"])), key=lambda i: scores[about["label_token_ids"][i][0]])])'
    )
    return "\n".join(lines)


def _quality(own: pd.DataFrame, facts: CardFacts) -> list[str]:
    if own.empty:
        return [f"{NOT_MEASURED.capitalize()}: the store holds no evaluation of this fit."]
    row = own.iloc[0]
    interval = wilson(round(row["accuracy"] * row["num_test"]), int(row["num_test"]))
    names = {
        "f1_macro": "F1, averaged over classes, %",
        "precision_macro": "Precision, averaged over classes, %",
        "recall_macro": "Recall, averaged over classes, %",
    }
    rows = [
        ("Test texts", f"{int(row['num_test']):,}, never trained on"),
        (
            "Accuracy, %",
            f"{percent(row['accuracy'])}; 95 % interval {percent(interval.low)} to {percent(interval.high)} "
            f"({interval.method}: these weights on new texts)",
        ),
        *((label, _or_missing(percent, row[name])) for name, label in names.items()),
        ("Calibration error (ECE)", _or_missing(three_digits, row["ece"])),
        ("Texts cut at the length limit, %", _or_missing(percent, row["truncated_share"])),
        ("Agreement of two halves of the human raters, %", _or_missing(percent, row["ceiling_accuracy"])),
    ]
    parts = [_table(rows)]
    if len(facts.trials) > 1:
        seeds = ", ".join(
            f"seed {r['seed']}: {percent(r['accuracy'])}" for _, r in facts.trials.sort_values("seed").iterrows()
        )
        parts.append(f"Accuracy of the same recipe, %: {seeds}.")
    return parts


def _speed(own: pd.DataFrame) -> list[str]:
    if own.empty or missing(own.iloc[0]["measurement_id"]):
        return [f"{NOT_MEASURED.capitalize()}: the store holds no measurement of this fit."]
    row = own.iloc[0]
    threads = f", {int(row['num_threads'])} threads" if not missing(row["num_threads"]) else ""
    rows = [
        ("Device", f"{row['device_name']}{threads}"),
        ("Median time to label of one text, ms", _or_missing(milliseconds, row["latency_p50_s"])),
        ("99th percentile, ms", _or_missing(milliseconds, row["latency_p99_s"], "withheld: too few requests")),
        ("Most texts per second", _or_missing(three_digits, row["throughput_texts_per_s"])),
        (
            "Most memory of the process, one text at a time, MiB",
            _or_missing(mebibytes, row["memory_peak_batch1_bytes"]),
        ),
        (
            "of it libraries + weights + working memory, MiB",
            " + ".join(
                _or_missing(mebibytes, row[f"memory_{part}_bytes"]) for part in ("libraries", "weights", "working")
            ),
        ),
        ("Most memory of the process, largest batch, MiB", _or_missing(mebibytes, row["memory_peak_bytes"])),
        ("Weights in memory, MiB", _or_missing(mebibytes, row["weights_bytes"])),
        ("Start to first label, s", _or_missing(three_digits, row["cold_start_s"])),
        ("Verdict on disturbance by other load", f"{row['verdict']}{', quick protocol' if row['quick'] else ''}"),
    ]
    return [_table(rows), "Measured in MoodBench's own serving process, not in a transformers pipeline."]


def _training(facts: CardFacts) -> list[tuple[str, str]]:
    record, spec, data = facts.fit.record, facts.fit.spec, facts.dataset
    unknown = "not in the catalogue"
    seeds, source = spec.seeds, spec.model.source
    origin = source and (source.hub or source.path or f"{source.package}:{source.folder}")
    parts = (("LoRA", spec.lora), ("training", spec.train))
    settings = "; ".join(
        f"{name}: " + ", ".join(f"{k} {v}" for k, v in part.model_dump(mode="json", exclude_none=True).items())
        for name, part in parts
        if part is not None
    )
    return [
        ("Base model", f"{origin} {spec.model.revision}, weights sha256 {spec.model.weights_sha256}"),
        ("Base model's licence", facts.model.licence if facts.model else unknown),
        (
            "Dataset",
            f"{spec.dataset.name}, revision {spec.dataset.revision}" + (f": {data.description}" if data else ""),
        ),
        ("Dataset's licence", data.licence if data else unknown),
        ("Citation", (data.citation if data else None) or unknown),
        ("Training texts", f"{record['num_train']:,}"),
        (
            "Validation texts",
            f"{record['num_validation']:,}; they chose the checkpoint (step {_whole(record['best_step'])})",
        ),
        ("Seeds", f"initialisation {seeds.init}, data order {seeds.data_order}, sub-sample {seeds.subsample}"),
        ("Parameters", f"{count(record['num_params'])}, of which trained {count(record['num_trainable'])}"),
        ("Training time", f"{duration(record['train_time_s'])} on {record['devices']}"),
        ("Settings", settings),
        ("Libraries", _libraries(record)),
    ]


def _caveats(own: pd.DataFrame, facts: CardFacts) -> list[str]:
    record, caveats = facts.fit.record, []
    if facts.model is None:
        caveats.append("The model is not in the catalogue that was read: licence and known caveats are unknown here.")
    elif facts.model.caveat:
        caveats.append(f"{facts.model.caveat[0].upper()}{facts.model.caveat[1:]}.")
    if facts.fit.cleaning:
        steps = ", ".join(facts.fit.cleaning)
        caveats.append(f"Its training texts were cleaned ({steps}); transformers does not do so: clean texts before.")
    caveats.append(f"Figures hold for texts like those of {record['dataset']}; on others they may be lower.")
    if facts.fit.spec.dataset.max_train_examples:
        caveats.append(f"Trained on a stratified sub-sample of {record['num_train']:,} texts.")
    if len(facts.trials) <= 1:
        caveats.append("One seed: how much the figures vary when it is trained again was not measured.")
    if len(own) and not missing(own.iloc[0]["measurement_id"]):
        row = own.iloc[0]
        if row["quick"]:
            caveats.append("Speed was measured with a quick protocol: good for a first look, not for publication.")
        if row["verdict"] != "clean":
            caveats.append(f"The speed measurement's verdict is {row['verdict']}, so its figures are provisional.")
    return caveats


def _moodbench(record: dict[str, Any]) -> str:
    return str(json.loads(record["environment"]).get("moodbench") or "of unknown version")


def _libraries(record: dict[str, Any]) -> str:
    versions = json.loads(record["environment"]).get("libraries", {})
    return ", ".join(f"{k} {versions[k]}" for k in ("torch", "transformers", "peft") if versions.get(k)) or "unknown"


def _or_missing(show: Any, value: Any, otherwise: str = NOT_MEASURED) -> str:
    return otherwise if missing(value) else str(show(value))


def _whole(value: Any) -> str:
    return "unknown" if missing(value) else str(int(value))


def _listed(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:-1]) + f" or {labels[-1]}"


def _table(rows: list[tuple[str, str]]) -> str:
    cells = [f"| {name} | {value.replace('|', '&#124;')} |" for name, value in rows]
    return "\n".join(["| | |", "| --- | --- |", *cells])
