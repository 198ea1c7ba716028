"""`compare` on the toy store: seeds of one model, private texts, and requests that cannot be honoured."""

import json

import pytest
from toy_store import SECRET, toy_fit, write_toy_store, write_toy_trial

from moodbench.cli import main


@pytest.fixture
def two_seeds(tmp_path):
    store = write_toy_store(tmp_path / "store")
    write_toy_trial(store, toy_fit(seed=1), "e1" + "1" * 18, "c1" + "1" * 18)
    return store


def compare(store, capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["compare", *arguments, "--store", store.uri])
    return ended.value.code, *capsys.readouterr()


def test_two_seeds_of_one_model_name_no_winner(two_seeds, capsys):
    code, words, _ = compare(two_seeds, capsys, "toy@0", "toy@1")
    assert code == 0
    assert "no winner is named" in words
    assert "better" not in words
    _, out, _ = compare(two_seeds, capsys, "toy@0", "toy@1", "--json")
    (found,) = json.loads(out)
    assert (found["delta"], found["p_value"], found["f1"]["p_value"], found["same_recipe"]) == (0, 1, 1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy", "toy"], "compared with itself"),
        (["toy@0", "toy@7"], "unknown seed of toy in"),
        (["toy@0", "toi@1"], "unknown model in"),
        (["toy@0", "toy"], "for both or for none"),
        (["toy@0", "toy@1", "--rope", "0"], "--rope 0: allowed is more than 0"),
        (["toy@0", "toy@1", "--flips", "-1"], "--flips -1: allowed is 0 or more"),
    ],
)
def test_what_cannot_be_compared_is_refused(two_seeds, capsys, arguments, message):
    code, out, error = compare(two_seeds, capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in error


def test_flipped_reviews_are_counted_and_texts_of_unknown_privacy_shown_only_on_request(two_seeds, capsys, monkeypatch):
    from moodbench.visualization import comparison_view

    whole = comparison_view.predicted_classes

    def other_seed_is_wrong_on_the_first(store, ids):
        frame = whole(store, ids)
        if ids[0].startswith("e1"):
            frame.iloc[0, 0] = 1 - frame.iloc[0, 0]
        return frame

    monkeypatch.setattr(comparison_view, "predicted_classes", other_seed_is_wrong_on_the_first)
    _, hidden, _ = compare(two_seeds, capsys, "toy@0", "toy@1", "--flips", "3")
    assert "only toy@0 is right: 00000000000000000000000000000004 (text not shown)" in hidden
    assert SECRET not in hidden
    _, shown, _ = compare(two_seeds, capsys, "toy@0", "toy@1", "--flips", "3", "--with-text")
    assert f"only toy@0 is right: {SECRET} 4" in shown
