"""What a board says beside its rows where a score cannot be, of speed, and of what a search chose."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import toy_store
from hypothesis import given
from hypothesis import strategies as st

from moodbench.analysis.results import read_results
from moodbench.hardware import hardware
from moodbench.report.leaderboard_view import StoreView, view_leaderboard
from moodbench.report.notes import rounded_shares, row_notes
from moodbench.statistics.composite import load_anchors
from moodbench.tune.result import search_result
from moodbench.tune.trials import SearchTrial


def test_a_baseline_without_fault_leaves_rows_without_score_and_says_why(tmp_path, monkeypatch):
    perfect = [[1.0, 0.0] if label == 0 else [0.0, 1.0] for label in toy_store.TEST_LABELS]
    monkeypatch.setattr(toy_store, "LOGITS", perfect)
    store = toy_store.write_toy_store(tmp_path)
    fit = toy_store.toy_fit(model=load_anchors().baseline)
    toy_store.write_toy_trial(store, fit, "e1" + "0" * 18, "c1" + "0" * 18)
    view = view_leaderboard(store, hardware())
    assert [row["accuracy"] for row in view.to_records()] == [1.0, 1.0]
    assert [row["score"] for row in view.to_records()] == [None, None]
    assert any("already reaches the ceiling: toy-set (tfidf-logreg 100.0 % of 100.0 %)" in note for note in view.notes)


def of_three_speeds():
    found = []
    for slower in (1.0, 1.5, 2.0):
        process = toy_store.toy_process()
        process["requests"]["latency_s"] = [slower * x for x in process["requests"]["latency_s"]]
        found.append(process)
    return found


def test_speed_is_drawn_over_processes_and_the_note_says_for_how_many(tmp_path, monkeypatch):
    """Three processes with medians of 3.5, 5.25 and 7 ms."""
    store = toy_store.write_toy_store(tmp_path)
    monkeypatch.setattr(toy_store, "toy_processes", of_three_speeds)
    toy_store.write_toy_trial(store, toy_store.toy_fit(model="other"), "e1" + "0" * 18, "c1" + "0" * 18)
    view = view_leaderboard(store, hardware())
    (joint,) = read_results(store, hardware()).computed.draws.values()
    other, toy = (joint.names.index(name) for name in ("other", "toy"))
    drawn = joint.speed_noise[:, other, 0] / np.sqrt(3 / 2)
    assert sorted(set(np.round(drawn, 9))) == pytest.approx(np.log([3.5 / 5.25, 1, 7 / 5.25]))
    assert (joint.speed_noise[:, toy] == 0).all()
    note = "resampled over fresh processes, for 1 of 2 results; the others are taken as measured"
    assert any(note in said for said in view.notes), view.notes
    (record,) = (Path(store.uri) / "measurements" / "c0").glob("*.parquet")
    record.unlink()  # what was not measured is not said to be taken as measured
    assert any("resampled over fresh processes." in said for said in view_leaderboard(store, hardware()).notes)


def test_speed_of_one_process_each_is_said_to_be_as_measured(tmp_path):
    store = toy_store.write_toy_store(tmp_path)
    toy_store.write_toy_trial(store, toy_store.toy_fit(model="other"), "e1" + "0" * 18, "c1" + "0" * 18)
    assert any(
        "Speed is taken as measured: rank intervals" in said for said in view_leaderboard(store, hardware()).notes
    )


def test_the_note_of_a_search_goes_by_the_model_and_not_by_the_name_on_the_board(tmp_path):
    """Two winners of one search stand on the board with the starts of their ids in their names; the note is of both."""
    store = toy_store.write_toy_store(tmp_path)
    first = toy_store.toy_fit(model="toy-tuned-ssssss")
    second = first.model_copy(update={"code_version": 7})
    for number, fit in enumerate((first, second), start=1):
        toy_store.write_toy_trial(store, fit, f"e{number}" + "0" * 18, f"c{number}" + "0" * 18)
    trial = SearchTrial(
        search_id="s" * 20,
        fit_id="f",
        model="toy",
        dataset="toy-set",
        space="lora_rank_alpha",
        configuration={},
        status="finished",
        metric="f1_macro",
        score=0.8,
        texts_trained=300,
        curve=(),
        train_time_s=60.0,
        elapsed_s=1.0,
    )
    view = StoreView(read_results(store, hardware()), (search_result([trial]),)).leaderboard()
    assert set(view.rows["name"]) == {"toy", *(f"toy-tuned-ssssss #{fit.config_id[:6]}" for fit in (first, second))}
    (note,) = (note for note in view.notes if "was chosen from" in note)
    assert note.startswith("toy-tuned-ssssss on toy-set was chosen from 1 configurations (1 search of lora_rank_alpha")
    assert note.endswith(" 2 configurations were tested under this name, so the best of them may be so by luck.")


def test_intervals_say_of_what_they_are(tmp_path):
    store = toy_store.write_toy_store(tmp_path)
    one = "One seed: intervals cover new texts with these weights, not retraining."
    several = "Several seeds: intervals cover retraining the recipe and new texts."
    assert {one, several} & set(view_leaderboard(store, hardware()).notes) == {one}
    toy_store.write_toy_trial(store, toy_store.toy_fit(seed=1), "e1" + "0" * 18, "c1" + "0" * 18)
    assert {one, several} & set(view_leaderboard(store, hardware()).notes) == {several}


def test_two_pooled_seeds_are_said_to_hide_an_unsteady_entry(tmp_path):
    rows = view_leaderboard(toy_store.write_toy_store(tmp_path), hardware()).rows
    pooled = "two-way items x seeds, seed variance moderated by comparable entries"
    for seeds, method, said in (
        (2, pooled, True),
        (3, pooled, False),
        (2, "two-way items x seeds", False),
        (2, None, False),
    ):
        notes = row_notes(rows.assign(num_seeds=seeds, interval_method=method), rows.iloc[:0], 0)
        assert any(note.startswith("Two seeds may hide") for note in notes) == said


def test_a_tiny_class_is_named_and_its_macro_f1_has_no_interval(tmp_path):
    """The toy data have four test texts of each class."""
    view = view_leaderboard(toy_store.write_toy_store(tmp_path), hardware())
    assert view.rows["f1_low"].isna().all() and view.rows["f1_macro"].notna().all()
    toy_store.write_toy_trial(
        toy_store.Store.open(tmp_path), toy_store.toy_fit(model="other"), "e1" + "0" * 18, "c1" + "0" * 18
    )
    notes = view_leaderboard(toy_store.Store.open(tmp_path), hardware()).notes
    assert any("the rarest class has 4 test texts, too few to tell entries apart in macro-F1" in note for note in notes)


@given(st.lists(st.integers(0, 100), min_size=4, max_size=4).filter(any), st.sampled_from([0, 1]))
def test_rounded_shares_sum_to_100_and_differ_from_the_shares_by_less_than_a_unit(weights, digits):
    shares = pd.Series(weights, index=list("abcd")) / sum(weights)
    rounded = [Decimal(part.partition("%")[0]) for part in rounded_shares(shares, digits).split(", ")]
    assert sum(rounded) == 100
    unit = Decimal(1).scaleb(-digits)
    assert all(
        each % unit == 0 and abs(float(each) - 100 * share) < float(unit)
        for each, share in zip(rounded, shares, strict=True)
    )
