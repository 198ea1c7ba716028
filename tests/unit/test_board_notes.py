"""What a board says beside its rows where a score cannot be."""

import numpy as np
import pytest
import toy_store

from moodbench.comparison.composite import load_anchors
from moodbench.hardware import hardware
from moodbench.visualization.board_view import view_board


def test_a_baseline_without_fault_leaves_rows_without_score_and_says_why(tmp_path, monkeypatch):
    perfect = [[1.0, 0.0] if label == 0 else [0.0, 1.0] for label in toy_store.TEST_LABELS]
    monkeypatch.setattr(toy_store, "LOGITS", perfect)
    store = toy_store.write_toy_store(tmp_path)
    fit = toy_store.toy_fit(model=load_anchors().baseline)
    toy_store.write_toy_trial(store, fit, "e1" + "0" * 18, "c1" + "0" * 18)
    view = view_board(store, hardware())
    assert [row["accuracy"] for row in view.to_records()] == [1.0, 1.0]
    assert [row["score"] for row in view.to_records()] == [None, None]
    assert any("does as well as can be: toy-set (tfidf-logreg 100.0 % of 100.0 %)" in note for note in view.notes)


def of_three_speeds():
    found = []
    for slower in (1.0, 1.5, 2.0):
        process = toy_store.toy_process()
        process["requests"]["latency_s"] = [slower * x for x in process["requests"]["latency_s"]]
        found.append(process)
    return found


@pytest.mark.parametrize("older", [False, True])
def test_speed_is_drawn_over_processes_and_the_note_says_for_how_many(tmp_path, monkeypatch, older):
    """Three processes with medians of 3.5, 5.25 and 7 ms; of an older record they are worked out from the samples."""
    store = toy_store.write_toy_store(tmp_path)
    monkeypatch.setattr(toy_store, "toy_processes", of_three_speeds)
    toy_store.write_toy_trial(store, toy_store.toy_fit(model="other"), "e1" + "0" * 18, "c1" + "0" * 18)
    if older:
        toy_store.change_row(store, "measurements/c1/*.parquet", process_speed=None)
    view = view_board(store, hardware())
    (joint,) = view.joints.values()
    other, toy = (joint.names.index(name) for name in ("other", "toy"))
    drawn = joint.speed_noise[:, other, 0] / np.sqrt(3 / 2)
    assert sorted(set(np.round(drawn, 9))) == pytest.approx(np.log([3.5 / 5.25, 1, 7 / 5.25]))
    assert (joint.speed_noise[:, toy] == 0).all()
    note = "drawn over fresh processes, for 1 of 2 results; that of the others is taken as measured"
    assert any(note in said for said in view.notes), view.notes


def test_speed_of_one_process_each_is_said_to_be_as_measured(tmp_path):
    store = toy_store.write_toy_store(tmp_path)
    toy_store.write_toy_trial(store, toy_store.toy_fit(model="other"), "e1" + "0" * 18, "c1" + "0" * 18)
    assert any("Speed is taken as measured: places" in said for said in view_board(store, hardware()).notes)
