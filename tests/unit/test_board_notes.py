"""What a board says beside its rows where a score cannot be."""

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
