"""The formats of others: read by Hugging Face's own parsers, of the form of Every Eval Ever's schema, LaTeX that balances."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from every_eval_ever_form import FORM
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results
from jsonschema import ValidationError, validate
from toy_store import SECRET, toy_fit, write_toy_store

from moodbench.cli import main
from moodbench.hardware import hardware
from moodbench.report.interop import evaluated, every_eval_ever, hub_results, latex, model_index
from moodbench.report.leaderboard_view import view_leaderboard

HUB = {"id": "stanfordnlp/imdb", "config": "plain_text", "revision": "e6281661ce1c48d982bc483cf8a173c1bbeb5d31"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_toy_store(tmp_path_factory.mktemp("exchange") / "results")


@pytest.fixture
def each(store):
    (found,) = evaluated(view_leaderboard(store, hardware()), store)
    return found


def on_the_hub(each):
    data = {**each.spec["dataset"], "hub": HUB}
    model = {**each.spec["model"], "source": {"hub": "prajjwal1/bert-tiny"}}
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
    validate(record, FORM)
    validate(json.loads(every_eval_ever(on_the_hub(each))), FORM)
    assert float(record["retrieved_timestamp"]) > 1.7e9
    by_name = {result["evaluation_name"]: result for result in record["evaluation_results"]}
    assert {n: r["metric_config"]["metric_id"] for n, r in by_name.items()} == {
        "toy-set - Accuracy": "accuracy",
        "toy-set - Macro F1": "f1_macro",
        "toy-set - Macro precision": "precision_macro",
        "toy-set - Macro recall": "recall_macro",
    }
    accuracy = by_name["toy-set - Accuracy"]
    assert accuracy["source_data"] == {"dataset_name": "toy-set", "source_type": "other"}
    details = accuracy["score_details"]
    interval = details["uncertainty"]["confidence_interval"]
    # Wilson's interval of 6 of 8, worked out with statsmodels.
    assert details["score"] == 0.75 and (interval["lower"], interval["upper"]) == pytest.approx(
        (0.409, 0.929), abs=1e-3
    )
    assert interval["method"] == "wilson (checkpoint)"


def test_a_record_of_every_eval_ever_names_model_and_data_as_the_hub_does(store, each):
    record = json.loads(every_eval_ever(each))
    there = json.loads(every_eval_ever(on_the_hub(each)))
    assert there["model_info"]["developer"] == "prajjwal1"
    assert there["evaluation_id"] == f"toy-set/prajjwal1/bert-tiny/{record['retrieved_timestamp']}"
    data = there["evaluation_results"][0]["source_data"]
    assert (data["hf_repo"], data["samples_number"]) == ("stanfordnlp/imdb", 8)
    assert data["additional_details"] == {"config": "plain_text", "revision": HUB["revision"]}
    found = [r["model_info"]["additional_details"]["model_availability"] for r in (record, there)]
    assert found == ["unknown", "open_weights"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r.pop("eval_library"),
        lambda r: r.update(dedupe_identity={"run_fingerprint": "ab"}),  # known to an earlier draft only
        lambda r: r.update(schema_version="0.2.2"),
        lambda r: r["model_info"]["additional_details"].pop("deployment_type"),
        lambda r: r["model_info"]["additional_details"].update(model_availability="weights"),
        lambda r: r["model_info"]["additional_details"].update(num_train=2),
        lambda r: r["source_metadata"].update(evaluator_relationship="self"),
        lambda r: r["evaluation_results"][0]["source_data"].update(source_type="hf_dataset"),
        lambda r: r["evaluation_results"][0]["metric_config"].pop("max_score"),
        lambda r: r["evaluation_results"][0]["score_details"].update(score=75.0),
        lambda r: r["evaluation_results"][0]["score_details"]["uncertainty"].update(num_samples=8.5),
    ],
)
def test_the_form_refuses_what_the_schema_refuses(each, damage):
    record = json.loads(every_eval_ever(each))
    damage(record)
    with pytest.raises(ValidationError):
        validate(record, FORM)


def tables(text: str) -> list[tuple[int, list[list[str]]]]:
    """Of every tabular its number of columns and its rows as cells; asserts that environments and braces balance."""
    opened: list[str] = []
    for kind, name in re.findall(r"(?<!\\)\\(begin|end){(\w+)}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    depth = 0
    for sign in re.findall(r"(?<!\\)[{}]", re.sub(r"(?m)^%.*", "", text)):
        depth += 1 if sign == "{" else -1
        assert depth >= 0
    assert depth == 0
    found = []
    for spec, body in re.findall(r"\\begin{tabular}{([lcr]+)}(.*?)\\end{tabular}", text, flags=re.DOTALL):
        lines = [line.removesuffix(r"\\") for line in body.splitlines() if line.endswith(r"\\")]
        found.append((len(spec), [re.split(r"(?<!\\) & ", line) for line in lines]))
    return found


def test_latex_has_as_many_cells_in_each_row_as_its_columns(store, tmp_path, capsys):
    (text,) = files(store, "latex", tmp_path, capsys).values()
    ((columns, (heading, row)),) = tables(text)
    assert columns == len(heading) == len(row) == 10
    assert "Accuracy \\% [95 \\%]" in heading and "75.0 [40.9, 92.9]" in row


NAMES = {
    "R&D": r"R\&D",
    "100%": r"100\%",
    "a_b": r"a\_b",
    "C#": r"C\#",
    "$x^2~y$": r"\$x\textasciicircum{}2\textasciitilde{}y\$",
    "{z}": r"\{z\}",
    "back\\slash": r"back\textbackslash{}slash",
    "a<b|c>d": r"a\textless{}b\textbar{}c\textgreater{}d",
    "x − 1 – 2 — 3 · 4 × 5": r"x $-$ 1 -- 2 -- 3 $\cdot$ 4 $\times$ 5",
}


def test_names_with_the_signs_of_latex_are_escaped_and_leave_the_table_whole(store):
    view = view_leaderboard(store, hardware())
    odd = pd.concat([view.rows.assign(name=name, track=f"{name} (2 training texts)") for name in NAMES])
    text = latex(type(view)(odd, view.failures, ("a note of 50 % & more",))).decode()
    found = tables(text)
    assert len(found) == len(NAMES)
    for (columns, rows), escaped in zip(found, NAMES.values(), strict=True):
        assert [len(row) for row in rows] == [columns, columns]
        assert rows[1][1] == escaped
        assert f"\\caption{{{escaped} (2 training texts). " in text
    bare = re.sub(r"(?m)^%.*", "", text)
    assert not re.findall(r"(?<!\\)[#_%]", bare) and bare.isascii()


def test_no_format_holds_a_text_of_the_data(store, tmp_path, capsys):
    for form in ("huggingface", "every-eval-ever", "latex"):
        for text in files(store, form, tmp_path / form, capsys).values():
            assert SECRET not in text


def test_the_time_of_the_evaluation_is_that_of_its_record(store, each):
    assert each.ended_at == pd.Timestamp(store.records("evaluations")["ended_at"].iloc[0])
