"""A fit whose layers are on two GPUs learns what one GPU learns; needs two, run with -m gpu."""

import numpy as np
import pytest

pytestmark = pytest.mark.gpu


def fitted(folder, num_gpus):
    """The columns of the fit record, the predictor and the logits of a few texts."""
    from moodbench.benchmark.resolve import resolve
    from moodbench.config import load_catalogue
    from moodbench.evaluation.predicting import predict_texts
    from moodbench.hardware import hardware
    from moodbench.models.predictor import load_predictor
    from moodbench.spec import BenchmarkSpec
    from moodbench.trial import run_fit

    spec = BenchmarkSpec(
        models=("MiniLM-L3",), datasets=("icwsm-product",), train={"precision": "fp32", "epochs": 1}, device="cuda"
    )
    (fit,) = [t.fit for t in resolve(spec, load_catalogue(), hardware()) if t.fit.model.method == "lora"]
    folder.mkdir()
    result = run_fit(fit, folder, "cuda", lambda _: None, folder / "checkpoints", (), 60.0, num_gpus=num_gpus)
    predictors = [load_predictor(fit, folder, form, "cuda", num_gpus=num_gpus) for form in ("merged", "as_trained")]
    texts = ["good", "a terrible, noisy fan", "it does what it should and no more"]
    return result.columns, predictors, [predict_texts(each, texts, 2)[0] for each in predictors]


def test_a_fit_on_two_gpus_equals_that_on_one(tmp_path):
    import torch

    assert torch.cuda.device_count() >= 2, "this test needs two GPUs"
    one, _, logits_of_one = fitted(tmp_path / "one", 1)
    two, predictors, logits_of_two = fitted(tmp_path / "two", 2)
    assert (one["devices"], two["devices"]) == ("cuda", "2 x cuda")
    for predictor in predictors:
        assert len({p.device for p in predictor._model.parameters()}) == 2
    assert [p["loss"] for p in two["curve"]] == pytest.approx([p["loss"] for p in one["curve"]], abs=1e-3)
    for a, b in zip(logits_of_one, logits_of_two, strict=True):
        assert np.allclose(a, b, atol=1e-2)
