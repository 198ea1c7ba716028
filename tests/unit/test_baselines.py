import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from moodbench.config import load_catalogue
from moodbench.models.baselines import Majority, TfidfLogreg, Vader
from moodbench.training.fitting import fit_majority, fit_tfidf, fit_vader

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


def test_tfidf_logreg_equals_the_scikit_learn_pipeline(tmp_path):
    tfidf = load_catalogue().training.tfidf.model_copy(
        update={"inverse_regularisation": (1.0,), "min_document_count": 1}
    )
    fit_tfidf(TRAIN, TRAIN, tfidf, 2, tmp_path)
    model = TfidfLogreg.load(tmp_path)
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=1.0, max_iter=1000)
    )
    pipeline.fit(TRAIN["text"], TRAIN["label"])
    log_odds = np.diff(model.logits(model.encode(TEXTS)), axis=1)[:, 0]
    np.testing.assert_allclose(log_odds, pipeline.decision_function(TEXTS), rtol=1e-5)


def test_tfidf_logreg_has_a_row_of_logits_per_class_with_three_labels(tmp_path):
    train = TRAIN.assign(label=[2, 2, 0, 0, 2, 1, 1, 2])
    tfidf = load_catalogue().training.tfidf.model_copy(update={"min_document_count": 1})
    fit_tfidf(train, train, tfidf, 3, tmp_path)
    model = TfidfLogreg.load(tmp_path)
    assert model.logits(model.encode(train["text"].tolist())).argmax(axis=1).tolist() == train["label"].tolist()


def test_validation_chooses_the_regularisation(tmp_path):
    validation = pd.DataFrame({"text": ["good", "bad", "warm", "cold"], "label": [1, 0, 1, 0]})
    tfidf = load_catalogue().training.tfidf.model_copy(
        update={"inverse_regularisation": (1e-6, 10.0), "min_document_count": 1}
    )
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
