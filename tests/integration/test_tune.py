"""A search from the command line: pick, plots, repetition without training twice, and the winner in a catalogue."""

import json
import re

import pytest

from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.store import Store
from moodbench.tuning.records import search_trials, winner
from moodbench.tuning.registered import registered

pytestmark = pytest.mark.integration
WORDS = ["tune", "--model", "MiniLM-L3", "--dataset", "icwsm-movie", "--max-train-examples", "64",
         "--max-validation-examples", "40", "--scheduler", "none", "--train", "epochs=1"]  # fmt: skip


def test_a_search_goes_on_where_it_stopped_and_its_winner_can_be_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([*WORDS, "--trials", "2", "--seeds", "0"])
    said = capsys.readouterr().out
    assert ended.value.code == 0, said
    store = Store.open("results")
    first = search_trials(store)
    assert [t.status for t in first] == ["finished", "finished"]
    assert {t.fit_id for t in first} == store.ids("fits")
    for trial in first:
        record = store.record("fits", trial.fit_id)
        assert trial.score == max(score for _, score in trial.curve)
        assert trial.score == pytest.approx(record["validation_f1_macro"])
        assert f'"r":{trial.configuration["lora.r"]},' in record["spec"].replace(" ", "")
    asked = registered(store, first[0].search_id)
    assert asked is not None and asked.confirmation_seeds == (0, 1, 2) and asked.num_trials == 2
    assert (asked.num_train, asked.max_texts, asked.num_grid, asked.grid_texts) == (64, 64, 6 * 4 * 4, 6 * 4 * 4 * 64)
    pages = list(tmp_path.glob("results/exports/search-*.html"))
    assert len(pages) == 1 and "Validation score by rank and alpha over rank" in pages[0].read_text("utf-8")
    assert not re.search(r"<(script|link)[^>]+(src|href)=.https?:", pages[0].read_text("utf-8"))

    with pytest.raises(SystemExit) as ended:
        main([*WORDS, "--trials", "3", "--seeds", "0"])
    said = capsys.readouterr().out
    assert ended.value.code == 0, said
    assert "2 of them there already" in said
    again = search_trials(store)
    assert len(again) == 3 and again[:2] == first
    assert len(store.ids("fits")) == 3

    with pytest.raises(SystemExit) as ended:
        main([*WORDS, "--trials", "3", "--seeds", "5"])
    assert ended.value.code == 2 and "registered with the 3 seeds 0, 1, 2" in capsys.readouterr().err

    with pytest.raises(SystemExit) as ended:
        main(["tune", "apply", *WORDS[1:], "--config", "mine.yaml"])
    assert ended.value.code == 0
    best = winner(again)
    assert best is not None
    entry = load_catalogue(tmp_path / "mine.yaml").model("MiniLM-L3-tuned")
    assert entry.lora["r"] == best.configuration["lora.r"]
    assert entry.train["learning_rate"] == best.configuration["train.learning_rate"]
    assert "best of 3 configurations of lora_rank_alpha" in entry.description


def test_configurations_that_share_passes_are_ordinary_fits_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([*WORDS, "--trials", "3", "--seeds", "0", "--together", "2"])
    said = capsys.readouterr().out
    assert ended.value.code == 0, said
    store = Store.open("results")
    trials = search_trials(store)
    assert [t.status for t in trials] == ["finished"] * 3
    assert {t.fit_id for t in trials} == store.ids("fits")
    records = [store.record("fits", t.fit_id) for t in trials]
    for trial, record in zip(trials, records, strict=True):
        assert trial.score == pytest.approx(record["validation_f1_macro"])
    joined = [json.loads(record["hparams"])["chosen"].get("trained_together") for record in records]
    assert sorted(joined, key=str) == [2, 2, None]
