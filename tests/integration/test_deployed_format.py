"""A model is evaluated, measured and served in the number format in which its weights were trained."""

import numpy as np
import pytest
from safetensors.torch import load_file
from test_families import spec_for
from tiny_models import rows, save_checkpoint

from moodbench.config.schema import ProbeDefaults
from moodbench.models.adapter import merged_model
from moodbench.models.device import parameter_bytes
from moodbench.models.predictor import deployed_dtype, deployed_form, load_predictor
from moodbench.models.tokenizer import load_tokenizer
from moodbench.models.transformer import TOKENIZER, TransformerClassifier, load_transformer, save_merged
from moodbench.training.checkpoints import CheckpointArea
from moodbench.training.fitting import fit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


@pytest.mark.parametrize(("model_type", "decoder"), [("bert", False), ("llama", True)])
def test_a_model_trained_from_16_bit_weights_is_merged_into_16_bit_weights(tmp_path, model_type, decoder):
    save_checkpoint(tmp_path / "model", model_type, decoder=decoder)
    spec = spec_for(tmp_path / "model", model_type, "none")
    train = spec.train.model_copy(update={"epochs": 1, "learning_rate": 1e-2, "precision": "bf16"})
    spec = spec.model_copy(update={"dtype": "bf16", "train": train})
    artifact, area = tmp_path / "artifact", CheckpointArea(tmp_path / "checkpoints", lambda: 0)
    for folder in (artifact, area.folder):
        folder.mkdir()
    fit(spec, rows(64, 1), rows(16, 2), artifact, "cpu", lambda _: None, area)
    tokenizer = load_tokenizer(spec, artifact / TOKENIZER)
    whole, half = (merged_model(spec, artifact, tokenizer, dtype=dtype) for dtype in ("fp32", "bf16"))
    assert parameter_bytes(half) < 0.55 * parameter_bytes(whole), "all but the head"
    texts = rows(16, 3)["text"].tolist()
    trained = load_transformer(spec, artifact, "as_trained", "cpu", "fp32")
    expected = trained.logits(trained.encode(texts))
    for model, tolerance in ((whole, 0.05), (half, 0.1)):
        deployed = TransformerClassifier(model, tokenizer, "cpu")
        found = deployed.logits(deployed.encode(texts))
        assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()
    assert (deployed_dtype(spec, "cuda"), deployed_dtype(spec, "cpu")) == ("bf16", "fp32")
    save_merged(spec, artifact, tmp_path, "bf16")
    assert {str(tensor.dtype) for tensor in load_file(tmp_path / "model.safetensors").values()} == {"torch.bfloat16"}
    if not decoder:
        from transformers import pipeline

        answers = pipeline("text-classification", model=str(tmp_path), device="cpu")(texts)
        labels = [spec.dataset.labels[best] for best in expected.argmax(axis=1)]
        assert sum(a["label"] == b for a, b in zip(answers, labels, strict=True)) >= 14


@pytest.mark.parametrize(("method", "dtype"), [("lora", "bf16"), ("full", "bf16"), ("full", "fp16"), ("lora", "fp16")])
def test_the_wanted_format_is_that_of_the_loaded_weights(tmp_path, method, dtype):
    save_checkpoint(tmp_path / "model", "bert", decoder=False)
    spec = spec_for(tmp_path / "model", "bert", "none")
    changes = {"train": spec.train.model_copy(update={"epochs": 1, "learning_rate": 1e-2})}
    if method == "full":
        changes |= {"model": spec.model.model_copy(update={"method": "full"}), "lora": None, "target_modules": ()}
    spec = spec.model_copy(update=changes)
    artifact, area = tmp_path / "artifact", CheckpointArea(tmp_path / "checkpoints", lambda: 0)
    for folder in (artifact, area.folder):
        folder.mkdir()
    fit(spec, rows(64, 1), rows(16, 2), artifact, "cpu", lambda _: None, area)
    whole, half = (load_predictor(spec, artifact, deployed_form(spec), "cpu", dtype=each) for each in (None, dtype))
    assert half.weights_bytes < 0.55 * whole.weights_bytes
    texts = rows(16, 3)["text"].tolist()
    expected, found = (each.logits(each.encode(texts)) for each in (whole, half))
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_a_probe_continues_its_grid_at_the_edge_and_reads_from_weights_in_16_bit(tmp_path):
    save_checkpoint(tmp_path / "model", "bert", decoder=False)
    spec = spec_for(tmp_path / "model", "bert", "none")
    spec = spec.model_copy(
        update={
            "model": spec.model.model_copy(update={"method": "linear-probe"}),
            "probe": ProbeDefaults(pooling="mean", inverse_regularisation=(1e-4, 1e-3)),
            "lora": None, "train": None, "target_modules": (),
        }
    )  # fmt: skip
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    area = CheckpointArea(tmp_path, lambda: 0)
    outcome = fit(spec, rows(64, 1), rows(32, 2), artifact, "cpu", lambda _: None, area)
    assert outcome.chosen["C"] > 1e-3, "at 1e-3 the texts of both classes get nearly the same scores"
    whole, half = (load_predictor(spec, artifact, "native", "cpu", dtype=each) for each in ("fp32", "bf16"))
    assert half.weights_bytes < 0.55 * whole.weights_bytes
