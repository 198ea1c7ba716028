"""A model is evaluated, measured and served in the number format in which its weights were trained."""

import numpy as np
import pytest
from test_families import spec_for
from tiny_models import rows, save_checkpoint

from moodbench.models.adapter import merged_model
from moodbench.models.device import parameter_bytes
from moodbench.models.tokenizer import load_tokenizer
from moodbench.models.transformer import TOKENIZER, TransformerClassifier, deployed_dtype, load_transformer
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
    trained = load_transformer(spec, artifact, "as_trained", "cpu")
    expected = trained.logits(trained.encode(texts))
    for model, tolerance in ((whole, 0.05), (half, 0.1)):
        deployed = TransformerClassifier(model, tokenizer, "cpu")
        found = deployed.logits(deployed.encode(texts))
        assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()
    assert (deployed_dtype(spec, "cuda"), deployed_dtype(spec, "cpu")) == ("bf16", "fp32")
