"""A search from the command line: pick, plots, repetition without training twice, and the winner in a catalogue."""

import json
import re

import pytest

from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.store import Store
from moodbench.tune.result import searches, tuned_name
from moodbench.tune.search import registered
from moodbench.tune.trials import search_trials

pytestmark = pytest.mark.integration
WORDS = ["tune", "--model", "MiniLM-L3", "--dataset", "icwsm-movie", "--max-train-examples", "64",
         "--max-validation-examples", "40", "--scheduler", "none", "--train", "epochs=1", "min_steps=0"]  # fmt: skip


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
    assert "2 already done" in said
    again = search_trials(store)
    assert len(again) == 3 and again[:2] == first
    assert len(store.ids("fits")) == 3

    with pytest.raises(SystemExit) as ended:
        main([*WORDS, "--trials", "3", "--seeds", "5"])
    assert ended.value.code == 2 and "registered with the 3 seeds 0, 1, 2" in capsys.readouterr().err

    with pytest.raises(SystemExit) as ended:
        main(["tune", "apply", *WORDS[1:], "--config", "mine.yaml"])
    assert ended.value.code == 0
    (search,) = searches(store)
    assert search.best is not None and search.best.fit_id == search.default_fit_id
    assert "mine.yaml is unchanged" in capsys.readouterr().out and not (tmp_path / "mine.yaml").exists()


LONGER = """description: longer training than the default's
parameters:
  train.epochs: {distribution: choice, values: [5, 6]}
"""


@pytest.mark.slow
def test_a_search_ends_with_a_pick_its_interval_its_cost_and_a_row_beside_the_default(
    tmp_path, monkeypatch, capsys, config
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "longer.yaml").write_text(LONGER, "utf-8")
    words = ["--model", "MiniLM-L3", "--dataset", "icwsm-tweets", "--space", "longer.yaml", "--max-train-examples", "192",
             "--max-validation-examples", "60", "--scheduler", "none", "--train", "effective_batch_size=8",
             "evaluations_per_epoch=1", "min_steps=0", "learning_rate=2e-3", "warmup_share=0.06"]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(["tune", *words, "--trials", "2", "--seeds", "1", "--config", str(config), "--protocol", "short"])
    said = capsys.readouterr().out
    assert ended.value.code == 0, said
    store = Store.open("results")
    (search,) = searches(store)
    best = search.best
    assert best is not None and "Preregistered" in said and "Plots: " in said
    name = tuned_name("MiniLM-L3", search.search_id)
    evaluated = store.records("evaluations").set_index("model")["accuracy"]
    delta = 100 * (evaluated[name] - evaluated["MiniLM-L3"])
    assert delta > 10, "five epochs learn, two do not"
    pick = next(line for line in said.splitlines() if line.startswith("Pick: "))
    assert pick.startswith(f"Pick: {json.dumps(best.configuration)}; accuracy on the test split {delta:+.1f} points")
    low, high, narrow = (float(each) for each in re.findall(r"(?:interval|to|from) ([+-][0-9.]+[0-9])", pick))
    assert 0 < low < narrow < delta < high
    texts = sum(t.texts_trained for t in search.trials)
    assert texts == 192 * (5 + 6) and f"The search cost {texts:,} texts trained, 100.0 % of the {texts:,}" in said

    with pytest.raises(SystemExit):
        main(["leaderboard", "--json"])
    board = json.loads(capsys.readouterr().out)
    assert {name, "MiniLM-L3"} < {row["name"] for row in board["board"]}

    with pytest.raises(SystemExit) as ended:
        main(["tune", "apply", *words, "--config", "mine.yaml"])
    assert ended.value.code == 0
    entry = load_catalogue(tmp_path / "mine.yaml").model(name)
    assert entry.train["epochs"] == best.configuration["train.epochs"]
    assert "best of 2 configurations of longer.yaml" in entry.description
