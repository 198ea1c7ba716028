"""Preparing texts and multiplying training texts: what changes, what never does."""

import json

import numpy as np
import pandas as pd
import pytest
from own_files import load, rows, table

from moodbench.benchmark.data_report import data_report
from moodbench.benchmark.resolve import resolve
from moodbench.config import load_catalogue
from moodbench.config.schema import Augmentation
from moodbench.data.examples import MARKS, augmented, changed_text
from moodbench.errors import DataError, SpecError
from moodbench.evaluation.predicting import predictions_on
from moodbench.hardware import Hardware
from moodbench.models.predictor import load_predictor
from moodbench.preparation import STEPS, prepare_text
from moodbench.spec import BenchmarkSpec
from moodbench.training.fitting import fit_tfidf
from moodbench.trial import examples_of, run_fit

MACHINE = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)
TWEET = "@Ann_1 SO good &amp; cheap https://t.co/Ab?x=1 mail me@shop.com &lt;3 www.x.org"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), TWEET),
        (("entities",), "@Ann_1 SO good & cheap https://t.co/Ab?x=1 mail me@shop.com <3 www.x.org"),
        (("links",), "@Ann_1 SO good &amp; cheap http mail me@shop.com &lt;3 http"),
        (("mentions",), "@user SO good &amp; cheap https://t.co/Ab?x=1 mail me@shop.com &lt;3 www.x.org"),
        (("lowercase",), "@ann_1 so good &amp; cheap https://t.co/ab?x=1 mail me@shop.com &lt;3 www.x.org"),
        (tuple(reversed(STEPS)), "@user so good & cheap http mail me@shop.com <3 http"),
    ],
)
def test_each_step_changes_what_it_says_and_nothing_else(steps, expected):
    assert prepare_text(TWEET, steps) == expected
    assert prepare_text(expected, steps) == expected


@pytest.mark.parametrize(
    ("step", "text", "expected"),
    [
        ("breaks", "Bad.<br /><BR>Worse.<br/>A <b>bold</b> end", "Bad.\n\nWorse.\nA <b>bold</b> end"),
        ("escapes", r"Bad.\nHe said \"no\".\tC:\\new", 'Bad.\nHe said "no".\tC:\\\\new'),
    ],
)
def test_markup_of_pages_and_programs_is_replaced_by_its_own_step_alone(step, text, expected):
    assert prepare_text(text, (step,)) == expected
    others = [name for name in ("entities", "breaks", "escapes", "links", "mentions") if name != step]
    assert prepare_text(text, others) == text


def test_sources_declare_their_steps_and_others_have_none():
    found = {}
    for name, entry in load_catalogue().datasets.items():
        source = entry.hub or entry.file
        if source is not None and source.prepare:
            found[name] = source.prepare
    assert found == {"imdb": ("breaks",), "yelp": ("escapes",)}


MARKED = [(f"{t}<br />fine{i} &amp; good", lb) for i, (t, lb) in enumerate(rows())]


def test_an_own_file_keeps_its_mark_up_and_the_report_says_what_replaces_it(empty_folder):
    data = load("a.csv", table([*MARKED[:120], *rows()[120:]]))
    assert set(data.frame["text"]) == {t for t, _ in MARKED[:120]} | {t for t, _ in rows()[120:]}
    told = "\n".join(data_report(data).lines())
    assert "  120 texts contain <br />; --prepare breaks replaces them" in told
    assert "120 texts contain HTML entities such as &amp;; --prepare entities replaces them" in told
    assert "escapes" not in told
    asked = "\n".join(data_report(data, prepare=("breaks",)).lines())
    assert "120 texts contain <br />; every model replaces them (--prepare breaks)" in asked


def test_a_declared_step_cleans_the_texts_as_they_are_read_and_is_counted(empty_folder):
    lines = [*MARKED[:100], *rows()[100:], (f"{rows()[120][0]}<br>", rows()[120][1]), ("<br />", "negative")]
    data = load("a.csv", table(lines), prepare=("breaks",))
    assert not data.frame["text"].str.contains("<").any() and len(data.frame) == len(rows())
    assert data.reading.prepared == {"breaks": 102}
    assert data.reading.dropped["without text"] == 1 and data.reading.dropped["repeated"] == 1
    told = "\n".join(data_report(data).lines())
    assert "102 texts contained <br />; replaced, as the source declares `prepare: [breaks]`" in told


def trials(models=("tfidf-logreg",), **more):
    return resolve(BenchmarkSpec(models=models, datasets=("icwsm-tweets",), **more), load_catalogue(), MACHINE)


def test_steps_and_augmentation_change_the_id_and_the_order_of_steps_does_not():
    plain, prepared, multiplied = (
        trials()[0].fit, trials(prepare=("lowercase",))[0].fit, trials(augment={"word_swap": 0.1})[0].fit
    )  # fmt: skip
    assert len({plain.fit_id, prepared.fit_id, multiplied.fit_id}) == 3
    orders = [trials(prepare=steps)[0].fit.fit_id for steps in (("links", "lowercase"), ("lowercase", "links"))]
    assert orders[0] == orders[1]


def test_the_majority_and_vader_are_not_fitted_on_copies():
    fits = {t.fit.model.name: t.fit for t in trials(("majority", "vader", "tfidf-logreg"), augment={"word_swap": 0.5})}
    assert [fits[name].augmentation is None for name in ("majority", "vader", "tfidf-logreg")] == [True, True, False]


ROWS = pd.DataFrame(
    {
        "example_id": [f"{i:032x}" for i in range(200)],
        "text": [f"one{i} two three four five six seven eight" for i in range(200)],
        "label": [i % 2 for i in range(200)],
    }
)


def test_copies_keep_labels_and_originals_and_depend_on_the_seed_but_not_on_the_order_of_rows():
    how = Augmentation(word_dropout=0.2, word_swap=0.2, punctuation=0.2, copies=2)
    made = augmented(ROWS, how, seed=3)
    assert len(made) == 600 and made["example_id"].is_unique
    pd.testing.assert_frame_equal(made.iloc[:200], ROWS)
    assert made["label"].tolist() == ROWS["label"].tolist() * 3
    assert not set(made["text"][200:400]) & set(made["text"][400:])
    pd.testing.assert_frame_equal(made, augmented(ROWS, how, seed=3))
    assert (made["text"][200:] != augmented(ROWS, how, seed=4)["text"][200:]).mean() > 0.9
    shuffled = augmented(ROWS.sample(frac=1, random_state=0), how, seed=3).set_index("example_id")["text"]
    assert shuffled.to_dict() == made.set_index("example_id")["text"].to_dict()


def test_each_change_does_what_it_says_in_the_wanted_share():
    texts = ROWS["text"]
    dropped = [
        changed_text(t, Augmentation(word_dropout=0.25), np.random.default_rng(i)).split() for i, t in enumerate(texts)
    ]
    assert all(set(new) <= set(old.split()) and new for new, old in zip(dropped, texts, strict=True))
    assert 1 - sum(map(len, dropped)) / 1600 == pytest.approx(0.25, abs=0.045)  # 4 standard errors of 1,600 draws
    swapped = [
        changed_text(t, Augmentation(word_swap=0.3), np.random.default_rng(i)).split() for i, t in enumerate(texts)
    ]
    assert all(sorted(new) == sorted(old.split()) for new, old in zip(swapped, texts, strict=True))
    assert any(new != old.split() for new, old in zip(swapped, texts, strict=True))
    marked = [
        changed_text(t, Augmentation(punctuation=0.5), np.random.default_rng(i)).split() for i, t in enumerate(texts)
    ]
    assert all([w for w in new if w not in MARKS] == old.split() for new, old in zip(marked, texts, strict=True))
    assert (sum(map(len, marked)) - 1600) / 1600 == pytest.approx(0.5, abs=0.05)
    assert changed_text("alone", Augmentation(word_dropout=0.99), np.random.default_rng(0)) == "alone"
    assert changed_text("", Augmentation(word_swap=1.0), np.random.default_rng(0)) == ""


def test_a_fit_learns_from_prepared_texts_and_its_predictor_prepares_those_it_is_asked(tmp_path):
    (trial,) = trials(prepare=("lowercase",), max_train_examples=100)
    result = run_fit(trial.fit, tmp_path, "cpu", lambda _: None, tmp_path / "checkpoints", (), 60.0)
    assert json.loads(result.columns["hparams"])["preparation"] == ["lowercase"]
    predictor = load_predictor(trial.fit, tmp_path, "native", "cpu")
    texts = examples_of(trial.fit).split("test")["text"].head(50).tolist()
    ours = predictor.logits(predictor.encode([t.upper() for t in texts]))
    np.testing.assert_array_equal(ours, predictor.logits(predictor.encode(texts)))
    bare = predictor._predictor
    np.testing.assert_array_equal(ours, bare.logits(bare.encode([t.lower() for t in texts])))


def test_training_on_copies_leaves_validation_and_test_texts_as_they_are(tmp_path):
    plain, copied = (trials(max_train_examples=100, augment=a)[0] for a in ({}, {"word_dropout": 0.3, "copies": 2}))
    before = examples_of(copied.fit).frame.copy()
    result = run_fit(copied.fit, tmp_path, "cpu", lambda _: None, tmp_path / "checkpoints", (), 60.0)
    assert result.columns["num_train"] == 300
    assert json.loads(result.columns["hparams"])["augmentation"]["copies"] == 2
    pd.testing.assert_frame_equal(examples_of(copied.fit).frame, before)
    assert copied.fit.dataset == plain.fit.dataset
    rows = before[before["split"] == "test"]
    scored = predictions_on(load_predictor(copied.fit, tmp_path, "native", "cpu"), rows, 32)
    assert set(scored["example_id"]) == set(rows["example_id"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prepare": ("emoji",)}, "prepare"),
        ({"augment": {"word_dropout": 1.0}}, "augment.word_dropout: Input should be less than 1"),
        ({"augment": {"copies": 2}}, "give at least one of word_dropout, word_swap, punctuation"),
        ({"augment": {"synonyms": 0.1}}, "augment.synonyms: unknown key"),
        ({"text": {"truncation_side": "middle"}}, "text.truncation_side"),
    ],
)
def test_what_is_no_step_is_refused(more, message):
    from moodbench.spec.benchmark_spec import spec_from_values

    with pytest.raises(SpecError, match=message.replace(".", r"\.")):
        spec = spec_from_values({"models": ["tfidf-logreg"], "datasets": ["icwsm-tweets"], **more}, "here")
        resolve(spec, load_catalogue(), MACHINE)


def test_texts_without_a_common_word_are_told_by_what_to_change(tmp_path):
    tfidf = load_catalogue().training.tfidf
    rows = pd.DataFrame({"text": [" ", "\n", "\t"], "label": [0, 1, 0]})
    with pytest.raises(DataError, match="tfidf-logreg: no word and no sequence of characters occurs in at least 1 of"):
        fit_tfidf(rows, rows, tfidf, 2, tmp_path)
    lonely = pd.DataFrame({"text": ["aa bb", "cc dd", "ee ff"], "label": [0, 1, 0]})
    words = tfidf.model_copy(update={"min_document_count": 2, "max_character_ngram": None})
    with pytest.raises(DataError, match=r"no word occurs in at least 2 of the 3 training texts, so there is nothing"):
        fit_tfidf(lonely, lonely, words, 2, tmp_path)
