"""SmolLM2-135M-Instruct from its package: every value that the GGUF file holds, and what the model knows of sentiment."""

import numpy as np
import pytest

from moodbench.config import load_catalogue
from moodbench.models.locate import Located, locate, package_folder

pytestmark = pytest.mark.integration
NAME = "SmolLM2-135M-embedded"
SOURCE = load_catalogue().model(NAME).source
MODULES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
OUTER = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


@pytest.fixture(scope="module")
def located() -> Located:
    return locate(NAME, SOURCE)


def rows(num_heads: int, head_dim: int) -> np.ndarray:
    """Row of transformers' query or key weights that each row of llama.cpp's is: halves of a head become neighbours."""
    return np.arange(num_heads * head_dim).reshape(num_heads, 2, head_dim // 2).transpose(0, 2, 1).reshape(-1)


def test_every_tensor_is_the_dequantised_one_of_the_file(located):
    from gguf import GGUFReader, quants
    from safetensors import safe_open

    folder, version = package_folder(SOURCE.package, SOURCE.folder, NAME)
    stored = safe_open(located.folder / "model.safetensors", "np")
    missing = set(stored.keys())
    for tensor in GGUFReader(folder / SOURCE.gguf).tensors:
        _, layer, kind, *_ = f"{tensor.name}...".split(".")
        name = OUTER.get(tensor.name) or f"model.layers.{layer}.{MODULES[kind]}.weight"
        found, expected = stored.get_tensor(name), quants.dequantize(tensor.data, tensor.tensor_type)
        if kind in ("attn_q", "attn_k"):
            found = found[rows({"attn_q": 9, "attn_k": 3}[kind], 64)]
        assert found.dtype == np.float32 and np.array_equal(found, expected), name
        missing.remove(name)
    assert not missing
    assert (located.revision, located.weights_sha256) == (version, SOURCE.sha256)


def test_the_sizes_of_the_catalogue_are_those_of_the_configuration(located):
    import json

    config = json.loads((located.folder / "config.json").read_text())
    size = load_catalogue().model(NAME).size.model_dump()
    same = (
        "hidden_size",
        "num_hidden_layers",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
    )
    assert {key: config[key] for key in same} == {key: size[key] for key in same}
    assert config["max_position_embeddings"] == size["context_length"]


def test_the_language_model_tells_praise_from_blame(located):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(located.folder) for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    (positive,), (negative,) = (tokenizer(word).input_ids for word in (" positive", " negative"))

    def lead(text: str) -> float:
        with torch.inference_mode():
            logits = model(**tokenizer(f"Review: {text}\nSentiment:", return_tensors="pt")).logits[0, -1]
        return float(logits[positive] - logits[negative])

    assert lead("A wonderful, moving film.") > 1
    assert lead("A dull, tedious mess.") < -1
