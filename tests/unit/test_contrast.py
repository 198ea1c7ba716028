import pandas as pd

from moodbench.report import contrast


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
    found = contrast.disagreements({"A": A, "B": B}, TEXTS)
    assert list(found.index) == ["e1", "e2"], "e0 and e3: same label; least stated 0.6 before 0.55"
    assert list(found["text"]) == ["b b", "c c c"] and list(found["A"]) == [1, 1] and list(found["B"]) == [0, 0]


def test_slices_are_accuracies_of_parts():
    parts = contrast.slices({"A": A, "B": B}, TEXTS, ("neg", "pos")).set_index("part")
    assert parts.loc["all test texts"].tolist() == [4, 0.5, 0.5]
    assert parts.loc["label neg"].tolist() == [2, 0.5, 1.0] and parts.loc["label pos"].tolist() == [2, 0.5, 0.0]
    assert parts["num_texts"].filter(like="words").sum() == 4, "parts by length cover all texts"


def test_confusion_counts_true_labels_in_rows():
    assert contrast.confusion(A, 3).to_numpy().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
