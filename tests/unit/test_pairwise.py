"""`compare` on the toy store: seeds of one model, private texts, and requests that cannot be honoured."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toy_store import SECRET, change_row, toy_fit, write_toy_store, write_toy_trial

from moodbench.analysis import pairwise
from moodbench.analysis.pairwise import compare_models
from moodbench.analysis.results import PredictedClasses
from moodbench.cli import main
from moodbench.report.tables import PAIR_HEADINGS, pair_cells, pair_sentence
from moodbench.statistics.paired import paired_accuracy


@pytest.fixture
def two_seeds(tmp_path):
    store = write_toy_store(tmp_path / "store")
    write_toy_trial(store, toy_fit(seed=1), "e1" + "1" * 18, "c1" + "1" * 18)
    return store


@pytest.fixture
def recipes(two_seeds):
    """Two recipes of `toy`, one of them with the board's names of quantised weights."""
    other = toy_fit()
    other = other.model_copy(update={"quantization": "nf4"})
    write_toy_trial(two_seeds, other, "e2" + "2" * 18, "c2" + "2" * 18)
    changed = toy_fit().model_copy(update={"code_version": 7})
    write_toy_trial(two_seeds, changed, "e3" + "3" * 18, "c3" + "3" * 18)
    change_row(two_seeds, f"fits/**/*{other.fit_id}*.parquet", quantization="nf4")
    return two_seeds, toy_fit().config_id, changed.config_id


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
    assert found["verdict"] == "same recipe"


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
    whole = PredictedClasses.of

    def other_seed_is_wrong_on_the_first(self, ids):
        frame = whole(self, ids)
        if ids[0].startswith("e1"):
            frame.iloc[0, 0] = 1 - frame.iloc[0, 0]
        return frame

    monkeypatch.setattr(PredictedClasses, "of", other_seed_is_wrong_on_the_first)
    _, hidden, _ = compare(two_seeds, capsys, "toy@0", "toy@1", "--flips", "3")
    assert (
        "only toy@0 is right (negative; toy@1 predicts positive): 00000000000000000000000000000004 (text not shown)"
        in hidden
    )
    assert SECRET not in hidden
    _, shown, _ = compare(two_seeds, capsys, "toy@0", "toy@1", "--flips", "3", "--with-text")
    assert f"only toy@0 is right (negative; toy@1 predicts positive): {SECRET} 4" in shown


def test_names_of_the_board_can_be_compared_and_a_name_of_several_recipes_is_refused(recipes, capsys):
    store, ours, changed = recipes
    code, words, _ = compare(store, capsys, f"toy #{ours[:6]}", "toy nf4")
    assert code == 0 and f"toy #{ours[:6]} and toy nf4 do not differ significantly" in words
    code, words, _ = compare(store, capsys, f"toy #{ours[:6]}@1", f"toy #{changed}@0")
    assert code == 0 and "of the checkpoints" in words and "no winner is named" not in words
    code, _, error = compare(store, capsys, "toy", "toy nf4")
    assert code == 2
    for name in (f"'toy #{ours[:6]}'", f"'toy #{changed[:6]}'", "several recipes on toy-set (2 training texts)"):
        assert name in error
    code, _, error = compare(store, capsys, f"toy #{ours[:6]}", f"toy #{ours[:8]}")
    assert code == 2 and "are one recipe" in error


def test_only_the_given_recipes_are_compared(recipes):
    store, ours, changed = recipes
    nf4 = set(store.records("fits")["config_id"]) - {ours, changed}
    (found,) = compare_models(store, "toy", "toy nf4", None, config_ids={ours, *nf4})
    assert found.difference.only_a == found.difference.only_b == 0


def test_the_smallest_difference_that_would_be_found_stands_in_the_sentence():
    """200 items, 20 on which one is right: (1.96 + 0.84) sqrt(0.1 / 200), and 80 % power is what paired normal draws have there."""
    right = [np.repeat(x, [150, 11, 9, 30]) for x in ([1, 1, 0, 0], [1, 0, 1, 0])]
    pair = paired_accuracy(*right)
    assert pair.detectable == pytest.approx((1.95996 + 0.84162) * (0.1 / 200) ** 0.5, rel=1e-4)
    assert "detectable with 80 % power: 6.3 points" in pair_sentence("a", "b", "t", pair)
    seeds = np.stack([np.roll(right[0], 5 * s) for s in range(3)], axis=1), np.stack([right[1]] * 3, axis=1)
    both = paired_accuracy(*seeds)
    assert both.detectable > both.delta - both.low > 0, "half the interval and the 80 % on top"
    assert "power" not in pair_sentence("a", "b", "t", paired_accuracy(right[0], right[0])), (
        "nothing is known where nothing differs"
    )


def test_two_seeds_that_do_differ_have_no_winner_in_the_json_either(two_seeds):
    (found,) = compare_models(two_seeds, "toy@0", "toy@1", None)
    apart = paired_accuracy(*(np.repeat(x, [800, 60, 20, 120]) for x in ([1, 1, 0, 0], [1, 0, 1, 0])))
    assert apart.verdict == "better"
    assert replace(found, difference=apart).to_record()["verdict"] == "same recipe"
    assert replace(found, difference=apart, same_recipe=False).to_record()["verdict"] == "better"


def test_the_table_of_pairs_shows_what_would_be_found_and_only_equivalence_that_is_shown():
    """1,000 texts: 60 against 20 is 2.8016 sqrt(0.08 / 1000) = 2.5 points; 12 against 18 leaves all open; none differs."""
    tables = {"apart": (800, 60, 20, 120), "open": (800, 12, 18, 170), "same": (800, 0, 0, 200)}
    pairs = [
        (name, "b", paired_accuracy(*(np.repeat(x, counts) for x in ([1, 1, 0, 0], [1, 0, 1, 0]))))
        for name, counts in tables.items()
    ]
    apart, undecided, same = (dict(zip(PAIR_HEADINGS, row, strict=True)) for row in pair_cells(pairs))
    found, verdict = "Detectable, points (80 % power)", "Verdict"
    assert apart["Pair"] == "apart − b" and (apart["Difference, points"], apart["Only first right"]) == ("+4.0", "60")
    assert (apart[found], apart[verdict]) == ("2.5", "significant")
    assert (undecided[found], undecided[verdict]) == ("1.5", "not significant")
    assert (same[found], same[verdict], same["p"]) == ("—", "equivalent within 1 point", "1")


def said(labels, predicted, stated):
    ids = [f"e{i}" for i in range(len(labels))]
    frame = pd.DataFrame(
        {"label": labels, "predicted": predicted, "stated": stated}, index=pd.Index(ids, name="example_id")
    )
    return frame.assign(right=frame["label"] == frame["predicted"])


A = said([0, 0, 1, 1], [0, 1, 1, 0], [0.9, 0.6, 0.8, 0.7])
B = said([0, 0, 1, 1], [0, 0, 0, 0], [0.5, 0.95, 0.55, 0.9])
TEXTS = pd.DataFrame(
    {"example_id": [f"e{i}" for i in range(4)], "text": ["a", "b b", "c c c", "d d d d"], "private": False}
)


def test_disagreements_come_with_their_texts_the_surest_first():
    found = pairwise.disagreements({"A": A, "B": B}, TEXTS)
    assert list(found.index) == ["e1", "e2"], "e0 and e3: same label; least stated 0.6 before 0.55"
    assert list(found["text"]) == ["b b", "c c c"] and list(found["A"]) == [1, 1] and list(found["B"]) == [0, 0]


def test_slices_are_accuracies_of_parts():
    parts = pairwise.accuracy_by_slice({"A": A, "B": B}, TEXTS, ("neg", "pos")).set_index("part")
    assert parts.loc["all test texts"].tolist() == [4, 0.5, 0.5]
    assert parts.loc["label neg"].tolist() == [2, 0.5, 1.0] and parts.loc["label pos"].tolist() == [2, 0.5, 0.0]
    assert parts["num_texts"].filter(like="words").sum() == 4, "parts by length cover all texts"


def test_confusion_counts_true_labels_in_rows():
    assert pairwise.confusion(A, 3).to_numpy().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
