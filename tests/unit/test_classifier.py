"""The classifier that the package gives: a label and probabilities for each text, or the reason why there are none."""

import numpy as np
import pytest
from fitted_majority import classifier, spec_of

from moodbench.config.schema import FileSource
from moodbench.errors import DataError
from moodbench.models.baselines import Majority
from moodbench.serving.classifier import ChosenFit, Classifier, Prediction, probabilities


def test_probabilities_are_those_of_scipys_softmax_and_survive_extremes():
    from scipy.special import softmax

    logits = np.array([[1.0, 2.0, 3.0], [1000.0, -1000.0, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(probabilities(logits), softmax(logits.astype(np.float64), axis=1), atol=1e-15)


def test_no_texts_give_no_predictions():
    assert classifier().predict([]) == []


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ("a film", "texts is the one text 'a film'; expected a list"),
        (["a", None], "text 1 is missing or null; expected a text"),
        (["a", 3.0], "text 1 is a number"),
        ([b"a"], "text 0 is a bytes"),
        (["\ud83c"], "half a surrogate pair"),
    ],
)
def test_what_is_no_text_is_refused(texts, expected):
    with pytest.raises(DataError, match=expected):
        classifier().predict(texts)


def test_logits_that_are_not_finite_give_no_label():
    broken = Classifier(Majority([np.nan, 0.0]), ChosenFit(spec_of("majority"), {"fit_id": "x", "model": "majority",
        "dataset": "toy", "num_train": 4, "seed": 0}, 0))  # fmt: skip
    with pytest.raises(DataError, match="logits that are not finite"):
        broken.predict(["a"])


def test_a_prediction_names_every_class():
    (made,) = classifier().predict(["a"])
    assert isinstance(made, Prediction)
    assert made.label == "positive" and made.probability == made.probabilities["positive"] == pytest.approx(0.75)
    assert list(made.probabilities) == ["negative", "positive"] and sum(made.probabilities.values()) == pytest.approx(1)


class Heard(Majority):
    """A model that notes its texts."""

    def __init__(self):
        super().__init__(np.log([0.25, 0.75]))
        self.texts = []

    def encode(self, texts):
        self.texts += texts
        return super().encode(texts)


@pytest.mark.parametrize(
    ("steps", "text", "cleaned"),
    [
        (("breaks",), "fine.<br /><br />Go", "fine.\n\nGo"),
        (("escapes",), r"it\nis \"good\" ", 'it\nis "good"'),
        ((), "fine.<br />Go ", "fine.<br />Go "),
    ],
)
def test_texts_are_cleaned_like_those_of_the_source_that_a_model_was_trained_on(steps, text, cleaned):
    spec = spec_of("majority")
    source = FileSource(path="a.csv", text_column="text", label_column="label", prepare=steps)
    fit = ChosenFit(
        spec.model_copy(update={"dataset": spec.dataset.model_copy(update={"file": source})}),
        {"fit_id": "x", "dataset": "toy"},
        0,
    )
    model = Heard()
    Classifier(model, fit).predict([text])
    assert model.texts == [cleaned]
    assert bool(fit.cleaning_note) == bool(steps)


def test_the_package_refuses_names_it_does_not_have():
    import moodbench

    with pytest.raises(AttributeError, match="no attribute 'leaderbord'"):
        _ = moodbench.leaderbord
    assert {"run", "leaderboard", "load_predictor"} <= set(dir(moodbench))
