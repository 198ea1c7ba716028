"""The formats of others: read by Hugging Face's own parsers, of the form of Every Eval Ever's schema, LaTeX that balances."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results
from toy_store import SECRET, toy_fit, write_toy_store

from moodbench.cli import main
from moodbench.hardware import hardware
from moodbench.visualization.board_view import view_board
from moodbench.visualization.exchange import evaluated, every_eval_ever, hub_results, latex, model_index

HUB = {"id": "stanfordnlp/imdb", "config": "plain_text", "revision": "e6281661ce1c48d982bc483cf8a173c1bbeb5d31"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_toy_store(tmp_path_factory.mktemp("exchange") / "results")


@pytest.fixture
def each(store):
    (found,) = evaluated(view_board(store, hardware()), store)
    return found


def on_the_hub(each):
    data = {**each.spec["dataset"], "hub": HUB}
    model = {**each.spec["model"], "source": "hub", "location": "prajjwal1/bert-tiny"}
    return each._replace(spec={**each.spec, "dataset": data, "model": model})


def files(store, form, folder, capsys) -> dict[str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["export", "--store", store.uri, "--format", form, "--out", str(folder)])
    assert ended.value.code == 0
    return {Path(line).name: Path(line).read_text() for line in capsys.readouterr().out.splitlines()}


def test_hugging_face_reads_the_model_card_and_finds_the_figures(store, tmp_path, capsys):
    (written,) = files(store, "huggingface", tmp_path, capsys).items()
    assert written[0] == f"toy_toy-set_{toy_fit().config_id[:8]}_model_index.yaml"
    values = yaml.safe_load(written[1])
    name, results = model_index_to_eval_results(values["model-index"])
    assert name == "toy"
    figures = {result.metric_type: result.metric_value for result in results}
    # Six of eight right; 3 of 4 of each class: precision, recall and F1 of both classes are 3/4.
    assert figures == pytest.approx({"accuracy": 0.75, "f1": 0.75, "precision": 0.75, "recall": 0.75})
    assert {(r.dataset_type, r.dataset_name, r.dataset_split) for r in results} == {("custom", "toy-set", "test")}
    card = ModelCard(f"---\n{written[1]}---\n# toy\n")
    assert card.data.pipeline_tag == "text-classification" and len(card.data.eval_results) == 4
    assert isinstance(card.data, ModelCardData)


def test_data_of_the_hub_is_named_as_the_hub_names_it(each):
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml, parse_eval_result_entries

    there = on_the_hub(each)
    assert hub_results(each) is None
    entries = yaml.safe_load(hub_results(there))
    (entry,) = parse_eval_result_entries(entries)
    assert isinstance(entry, EvalResultEntry)
    assert (entry.dataset_id, entry.task_id, entry.value) == ("stanfordnlp/imdb", "plain_text", 0.75)
    assert entry.dataset_revision == HUB["revision"]
    assert eval_result_entries_to_yaml([entry]) == entries
    _, results = model_index_to_eval_results(yaml.safe_load(model_index(there))["model-index"])
    assert {r.dataset_type for r in results} == {"stanfordnlp/imdb"}
    assert yaml.safe_load(model_index(there))["base_model"] == "prajjwal1/bert-tiny"


def test_a_record_of_every_eval_ever_has_the_form_of_its_schema(store, each, tmp_path, capsys):
    (text,) = files(store, "every-eval-ever", tmp_path, capsys).values()
    record = json.loads(text)
    assert set(record) == {
        "schema_version",
        "evaluation_id",
        "dedupe_identity",
        "evaluation_timestamp",
        "retrieved_timestamp",
        "source_metadata",
        "model_info",
        "eval_library",
        "evaluation_results",
    }  # fmt: skip - required ones and two optional ones; others are forbidden
    assert float(record["retrieved_timestamp"]) > 1.7e9
    assert re.fullmatch("[a-fA-F0-9]+", record["dedupe_identity"]["run_fingerprint"])
    assert record["source_metadata"]["source_type"] in ("documentation", "evaluation_run")
    assert all(isinstance(v, str) for v in record["model_info"]["additional_details"].values())
    by_name = {result["evaluation_name"]: result for result in record["evaluation_results"]}
    accuracy = by_name["toy-set - Accuracy"]
    assert accuracy["source_data"] == {"dataset_name": "toy-set", "source_type": "other"}
    assert {"lower_is_better", "min_score", "max_score"} <= set(accuracy["metric_config"])
    details = accuracy["score_details"]
    interval = details["uncertainty"]["confidence_interval"]
    # Wilson's interval of 6 of 8, worked out with statsmodels.
    assert details["score"] == 0.75 and (interval["lower"], interval["upper"]) == pytest.approx(
        (0.409, 0.929), abs=1e-3
    )
    there = json.loads(every_eval_ever(on_the_hub(each)))
    assert (
        there["model_info"]["developer"] == "prajjwal1"
        and there["evaluation_id"] == f"toy-set/prajjwal1/bert-tiny/{record['retrieved_timestamp']}"
    )
    assert there["evaluation_results"][0]["source_data"]["hf_repo"] == "stanfordnlp/imdb"


def test_latex_balances_and_escapes(store, tmp_path, capsys):
    (text,) = files(store, "latex", tmp_path, capsys).values()
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    columns = re.search(r"\\begin{tabular}{([lr]+)}", text).group(1)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 2 and all(len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1 for row in rows)
    assert r"75.0 [40.9, 92.9]" in rows[1] and "Accuracy \\% [95 \\%]" in rows[0]
    view = view_board(store, hardware())
    odd = type(view)(view.board.assign(name="a_b & 50% {x}"), view.failures, ())
    assert r"a\_b \& 50\% \{x\}" in latex(odd).decode()


def test_no_format_holds_a_text_of_the_data(store, tmp_path, capsys):
    for form in ("huggingface", "every-eval-ever", "latex"):
        for text in files(store, form, tmp_path / form, capsys).values():
            assert SECRET not in text


def test_the_time_of_the_evaluation_is_that_of_its_record(store, each):
    assert each.ended_at == pd.Timestamp(store.records("evaluations")["ended_at"].iloc[0])
