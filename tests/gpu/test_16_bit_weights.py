"""A model is evaluated on a GPU in the number format that was asked for; needs a GPU, run with -m gpu."""

import numpy as np
import pytest

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 0.1), ("fp16", 0.02)])
def test_16_bit_weights_answer_like_fp32_in_half_the_memory(tmp_path, dtype, tolerance):
    from moodbench.benchmark.resolve import resolve
    from moodbench.config import load_catalogue
    from moodbench.hardware import hardware
    from moodbench.models.predictor import load_predictor, predict_texts
    from moodbench.spec import BenchmarkSpec
    from moodbench.trial import run_fit

    spec = BenchmarkSpec(models=("MiniLM-L3",), datasets=("icwsm-product",), train={"epochs": 1}, device="cuda")
    (fit,) = [t.fit for t in resolve(spec, load_catalogue(), hardware()) if t.fit.model.method == "lora"]
    run_fit(fit, tmp_path, "cuda", lambda _: None, tmp_path / "checkpoints", (), 60.0)
    whole, half = (load_predictor(fit, tmp_path, "merged", "cuda", dtype=each) for each in ("fp32", dtype))
    assert half.weights_bytes < 0.55 * whole.weights_bytes
    texts = ["good", "a terrible, noisy fan", "it does what it should and no more"]
    expected, found = (predict_texts(each, texts, 2)[0] for each in (whole, half))
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()
