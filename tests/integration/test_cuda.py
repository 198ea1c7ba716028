"""What only a CUDA device can show: 4-bit and 16-bit training and deployment, peaks (-m gpu)."""

import numpy as np
import pytest
from test_families import FAMILIES, TEST, VALIDATION, fit_once, spec_for
from tiny_models import save_checkpoint

from moodbench.benchmark.estimates import shape_of
from moodbench.config import load_catalogue
from moodbench.estimate.memory import Load, Memory, weights_bytes
from moodbench.metrics import score_all
from moodbench.models import base
from moodbench.models.adapter import LoRAConfigManager
from moodbench.models.device import gpu_peak_bytes, parameter_bytes, reset_gpu_peak
from moodbench.models.predictor import deployed_form, load_predictor, predict_texts

pytestmark = pytest.mark.gpu
MIB = 2**20


@pytest.fixture(scope="module", autouse=True)
def _cuda():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.fail("these tests were asked for (-m gpu), and torch finds no CUDA device")


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize(("quantization", "precision"), [("none", "fp16"), ("nf4", "fp16"), ("nf4", "bf16")])
def test_a_fit_on_cuda_learns_and_answers_the_same_when_loaded_again(tmp_path, family, quantization, precision):
    (tmp_path / "weights").mkdir()
    (tmp_path / "artifact").mkdir()
    save_checkpoint(tmp_path / "weights", family, decoder=FAMILIES[family].kind == "decoder")
    spec = spec_for(tmp_path / "weights", family, quantization)
    dtype = precision if quantization != "none" else "fp32"
    spec = spec.model_copy(update={"train": spec.train.model_copy(update={"precision": precision}), "dtype": dtype})
    outcome = fit_once(spec, tmp_path / "artifact", "cuda")
    losses = [point.loss for point in outcome.curve if point.loss is not None]
    assert np.mean(losses[-6:]) < 0.9 * np.mean(losses[:6])
    trained = load_predictor(spec, tmp_path / "artifact", "as_trained", "cuda")
    logits, _ = predict_texts(trained, VALIDATION["text"].tolist(), 32)
    nll = score_all(logits, VALIDATION["label"].to_numpy())["nll"]
    # Validation ran under autocast to the training format; what is loaded computes in the format of its weights.
    assert nll == pytest.approx(outcome.validation["nll"], abs=0.005 if precision == "fp16" else 0.03)
    texts = TEST["text"].tolist()
    first, again = (
        predict_texts(load_predictor(spec, tmp_path / "artifact", "as_trained", "cuda"), texts, 8)[0] for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


def test_4_bit_weights_take_the_bytes_of_the_estimate_with_the_table_of_words_in_16_bits():
    made = LoRAConfigManager.prepare_model("MiniLM-L6", 2, "cuda", quantization="nf4")
    base = made.model.get_base_model()
    assert base.get_input_embeddings().weight.element_size() == 2
    shape = shape_of("MiniLM-L6", load_catalogue())
    load = Load(8, 32, "cuda", precision="fp16", weights_precision="fp16", quantization="nf4")
    trained = sum(p.nbytes for p in base.parameters() if p.requires_grad)
    assert weights_bytes(shape, load) == pytest.approx(parameter_bytes(base) - trained, rel=0.05)


def test_nf4_takes_less_of_the_card_than_16_bit():
    import torch

    taken = {}
    for quantization in ("none", "nf4"):
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        made = LoRAConfigManager.prepare_model("MiniLM-L6", 2, "cuda", quantization=quantization)
        taken[quantization] = torch.cuda.memory_allocated() - before
        del made
    # 10.6 of 22.7 million parameters are matrices of the layers, in 0.516 bytes each instead of 4.
    assert taken["nf4"] < taken["none"] - 30 * MIB


@pytest.mark.parametrize(("family", "precision"), [("bert", "fp16"), ("llama", "bf16")])
def test_weights_trained_in_16_bit_are_deployed_in_it_or_in_the_format_that_is_wanted(tmp_path, family, precision):
    (tmp_path / "weights").mkdir()
    (tmp_path / "artifact").mkdir()
    save_checkpoint(tmp_path / "weights", family, decoder=FAMILIES[family].kind == "decoder")
    spec = spec_for(tmp_path / "weights", family, "none")
    train = spec.train.model_copy(update={"precision": precision})
    spec = spec.model_copy(update={"train": train, "dtype": precision})
    fit_once(spec, tmp_path / "artifact", "cuda")
    auto, whole = (
        load_predictor(spec, tmp_path / "artifact", deployed_form(spec), "cuda", dtype=dtype)
        for dtype in (None, "fp32")
    )
    assert auto.weights_bytes < 0.55 * whole.weights_bytes, "all but the head"
    texts = TEST["text"].tolist()
    expected, found = (predict_texts(predictor, texts, 8)[0] for predictor in (whole, auto))
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def training_peak(gib, monkeypatch):
    """Return the peak of one step of training on a card that is taken to have so much memory."""
    import torch

    monkeypatch.setattr(base, "memory_of", lambda *_: Memory("cuda", 64.0, gib))
    model = LoRAConfigManager.prepare_model("MiniLM-L6", 2, "cuda").model.train()
    ids = torch.randint(1000, 2000, (32, 256), device="cuda")
    reset_gpu_peak("cuda")
    model(input_ids=ids, labels=torch.zeros(32, dtype=torch.long, device="cuda")).loss.backward()
    return gpu_peak_bytes("cuda")[0]


def test_activations_are_recomputed_on_a_small_card_and_take_less_of_it(monkeypatch):
    # Six layers keep 8,192 tokens x 384 numbers x 4 bytes, which are 12 MiB, several times each.
    assert training_peak(0.9, monkeypatch) < training_peak(80.0, monkeypatch) - 100 * MIB


def test_the_peak_is_that_since_the_reset():
    import torch

    large = torch.empty(256 * MIB, dtype=torch.uint8, device="cuda")
    del large
    reset_gpu_peak("cuda")
    held = torch.empty(64 * MIB, dtype=torch.uint8, device="cuda")
    allocated, reserved = gpu_peak_bytes("cuda")
    assert held.nbytes <= allocated - torch.cuda.memory_allocated() + held.nbytes <= held.nbytes + MIB
    assert reserved >= allocated
