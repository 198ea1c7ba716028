import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from moodbench.config import load_catalogue
from moodbench.models.baselines import Majority, TfidfLogreg, Vader
from moodbench.training.fitting import choose_regularisation, fit_majority, fit_tfidf, fit_vader

TRAIN = pd.DataFrame(
    {
        "text": [
            "good film",
            "a good and warm film",
            "bad film",
            "a bad, cold film",
            "good good",
            "not bad",
            "so so",
            "good",
        ],
        "label": [1, 1, 0, 0, 1, 0, 0, 1],
    }
)
TEXTS = ["good", "bad and cold", "the table is brown", "not good at all", "warm"]


def test_majority_predicts_the_commoner_label_with_its_smoothed_share(tmp_path):
    train = TRAIN.assign(label=[1, 1, 1, 1, 1, 1, 0, 0])
    fit_majority(train, TRAIN, 2, tmp_path)
    model = Majority.load(tmp_path)
    logits = model.logits(model.encode(TEXTS))
    # 2 and 6 of 8 labels, one added to each: 3/10 and 7/10
    np.testing.assert_allclose(np.exp(logits), np.tile([0.3, 0.7], (5, 1)), rtol=1e-6)


def test_vader_takes_the_side_of_its_compound_score_and_the_prior_without_lexicon_words():
    model = Vader(sharpness=2.0, prior_log_odds=-0.7, num_labels=2)
    log_odds = np.diff(model.logits(model.encode(TEXTS)), axis=1)[:, 0]
    compounds = [SentimentIntensityAnalyzer().polarity_scores(t)["compound"] for t in TEXTS]
    assert compounds[2] == 0
    np.testing.assert_allclose(log_odds, [2 * c if c else -0.7 for c in compounds], atol=1e-6)


@pytest.mark.parametrize(
    ("compound", "label"), [(-0.9, 0), (-0.0501, 0), (-0.0499, 1), (0.0, 1), (0.0499, 1), (0.0501, 2), (0.8, 2)]
)
def test_vader_with_three_labels_keeps_the_authors_thresholds(compound, label):
    logits = Vader(3.0, 0.0, 3).logits_of_compounds(np.array([compound]))
    assert logits.argmax() == label


def test_vaders_sharpness_is_the_maximum_of_the_likelihood_found_by_a_grid(tmp_path):
    outcome = fit_vader(TRAIN, TRAIN, 2, tmp_path)
    compounds = np.array([SentimentIntensityAnalyzer().polarity_scores(t)["compound"] for t in TRAIN["text"]])
    grid = np.geomspace(0.01, 100, 20001)
    signs = np.where(TRAIN["label"] == 1, 1, -1)
    margins = np.where(compounds == 0, 0.0, compounds) * grid[:, None] * signs
    losses = np.logaddexp(0, -margins).sum(axis=1)
    assert outcome.chosen["sharpness"] == pytest.approx(grid[losses.argmin()], rel=1e-2)


def tfidf_of(**changes):
    return load_catalogue().training.tfidf.model_copy(update=changes)


def test_tfidf_logreg_equals_the_scikit_learn_pipeline(tmp_path):
    fit_tfidf(TRAIN, TRAIN, tfidf_of(inverse_regularisation=(1.0,), max_character_ngram=5), 2, tmp_path)
    model = TfidfLogreg.load(tmp_path)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
    characters = TfidfVectorizer(ngram_range=(2, 5), sublinear_tf=True, analyzer="char_wb")
    pipeline = make_pipeline(make_union(words, characters), LogisticRegression(C=1.0, max_iter=1000))
    pipeline.fit(TRAIN["text"], TRAIN["label"])
    log_odds = np.diff(model.logits(model.encode(TEXTS)), axis=1)[:, 0]
    np.testing.assert_allclose(log_odds, pipeline.decision_function(TEXTS), rtol=1e-5)


def test_an_artifact_of_words_alone_as_earlier_versions_saved_it_reads_as_it_did(tmp_path):
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    pipeline = make_pipeline(vectorizer, LogisticRegression(max_iter=1000)).fit(TRAIN["text"], TRAIN["label"])
    words = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    (tmp_path / "baseline.json").write_text(json.dumps({"max_ngram": 2, "words": words}), encoding="utf-8")
    head = pipeline[-1]
    arrays = {"idf": vectorizer.idf_, "coefficients": head.coef_, "intercepts": head.intercept_}
    save_file(arrays, tmp_path / "arrays.safetensors")
    model = TfidfLogreg.load(tmp_path)
    texts = [*TEXTS, "I am a :) film"]
    encoded = model.encode(texts)
    np.testing.assert_allclose(
        np.diff(model.logits(encoded), axis=1)[:, 0], pipeline.decision_function(texts), rtol=1e-5
    )
    assert encoded.num_tokens[-1] == 2, "words of two letters or more: am, film"


SCRIPTS = {
    "emoji": ("😍 🎉 💯 🥰 👍", "😡 💔 🤮 👎 😭", "{thing}📦{mood}⏰{mood}", "📺 🎧 🍕 👟 🚗"),
    "emoji of several code points": ("❤️ 👍🏽 👩‍🚀", "☹️ 👎🏿 🤦‍♀️", "{mood}{thing}{mood}", "📺 🎧 🍕 👟 🚗"),
    "Chinese": ("质量很棒 我很喜欢 推荐购买 物超所值", "质量很差 我很失望 不要购买 浪费金钱", "我昨天买了{thing}觉得{mood}朋友也", "手机 雨伞 键盘 水壶 耳机"),
    "Japanese": ("最高でした とても良い 大満足", "最悪でした とても悪い 残念です", "昨日買った{thing}は{mood}", "本 靴 時計 傘 机"),
    "Thai": ("ชอบมาก ประทับใจ คุ้มค่า", "แย่มาก ไม่ชอบเลย ห่วยแตก", "{thing}ชิ้นนี้{mood}ซื้อแล้ว", "หูฟัง มือถือ เสื้อผ้า กระเป๋า โทรทัศน์"),
    "Arabic": ("رائع ممتاز جميل", "مزعج رديء محبط", "هذا {thing} {mood} جدا", "القميص الهاتف الفندق الكتاب الفيلم"),
    "Hindi": ("अच्छी सुंदर बढ़िया", "बेकार ख़राब घटिया", "यह {thing} {mood} है", "किताब फ़िल्म घड़ी गाड़ी दुकान"),
    "emoticons": (":) :-D ;)", ":( :-/ D:", "{thing} {mood}", "1 2 3 4 5"),
}  # fmt: skip


def texts_in(script, things):
    good, bad, template, names = SCRIPTS[script]
    every = product(names.split()[things], ((1, good), (0, bad)))
    rows = [(template.format(thing=name, mood=m), label) for name, (label, moods) in every for m in moods.split()]
    return pd.DataFrame(rows, columns=["text", "label"])


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_baseline_learns_from_texts_in_any_script(script, tmp_path):
    train, validation, test = texts_in(script, slice(3)), texts_in(script, slice(3, 4)), texts_in(script, slice(4, 5))
    fit_tfidf(train, validation, load_catalogue().training.tfidf, 2, tmp_path)
    model = TfidfLogreg.load(tmp_path)
    encoded = model.encode(test["text"].tolist())
    assert (encoded.num_tokens > 0).all()
    assert model.logits(encoded).argmax(axis=1).tolist() == test["label"].tolist()


def scored_by(f1):
    """A fit whose validation scores are functions of log2 C: macro F1 `f1`, and the negative log likelihood -C."""
    return lambda c: ({"f1_macro": f1(np.log2(c)), "nll": -c}, None)


@pytest.mark.parametrize(
    ("peak", "chosen", "num_tried"),
    [(2, 4, 4), (5, 32, 7), (-4, 1 / 16, 9), (3.4, 8, 5), (40, 8192, 14), (-40, 1 / 8192, 17)],
)
def test_the_grid_is_continued_until_the_best_is_inside_or_a_limit_is_reached(peak, chosen, num_tried):
    best, tried = choose_regularisation((1.0, 2.0, 4.0, 8.0), scored_by(lambda x: -abs(x - peak)))
    assert (best, len(tried)) == (chosen, num_tried)
    assert min(tried) < best < max(tried) or best in (1 / 8192, 8192), "the last powers of 2 within 1e-4 ... 1e4"


def test_equal_scores_are_told_apart_by_likelihood_and_a_single_candidate_is_taken():
    assert choose_regularisation((1.0, 2.0, 4.0), scored_by(lambda x: float(x <= 1)))[0] == 2.0
    best, tried = choose_regularisation((3.0,), scored_by(lambda x: x))
    assert (best, list(tried)) == (3.0, [3.0])


def test_tfidf_logreg_has_a_row_of_logits_per_class_with_three_labels(tmp_path):
    train = TRAIN.assign(label=[2, 2, 0, 0, 2, 1, 1, 2])
    tfidf = load_catalogue().training.tfidf.model_copy(update={"min_document_count": 1})
    fit_tfidf(train, train, tfidf, 3, tmp_path)
    model = TfidfLogreg.load(tmp_path)
    assert model.logits(model.encode(train["text"].tolist())).argmax(axis=1).tolist() == train["label"].tolist()


def test_validation_chooses_the_regularisation(tmp_path):
    validation = pd.DataFrame({"text": ["good", "bad", "warm", "cold"], "label": [1, 0, 1, 0]})
    tfidf = tfidf_of(inverse_regularisation=(1e-6, 10.0), max_character_ngram=None)
    skewed = pd.concat([TRAIN, TRAIN[TRAIN["label"] == 0]], ignore_index=True)  # at C = 1e-6 all is negative
    outcome = fit_tfidf(skewed, validation, tfidf, 2, tmp_path)
    assert outcome.chosen == {"C": 10.0}
    assert outcome.validation["accuracy"] == 0.75, "cold is in no training text but as a pair with film"


@pytest.mark.parametrize(
    ("kind", "fit"),
    [
        (Majority, lambda folder: fit_majority(TRAIN, TRAIN, 2, folder)),
        (Vader, lambda folder: fit_vader(TRAIN, TRAIN, 2, folder)),
        (TfidfLogreg, lambda folder: fit_tfidf(TRAIN, TRAIN, load_catalogue().training.tfidf, 2, folder)),
    ],
)
def test_a_saved_baseline_reloads_to_identical_logits(kind, fit, tmp_path):
    fit(tmp_path)
    first, second = kind.load(tmp_path), kind.load(tmp_path)
    resaved = tmp_path / "again"
    resaved.mkdir()
    first.save(resaved)
    third = kind.load(resaved)
    logits = [m.logits(m.encode(TEXTS)) for m in (first, second, third)]
    assert logits[0].dtype == np.float32
    np.testing.assert_array_equal(logits[0], logits[1])
    np.testing.assert_array_equal(logits[0], logits[2])
