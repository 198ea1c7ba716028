"""Sizes of a transformer that determine its memory and arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from moodbench.config.schema import Family, ModelSize
from moodbench.errors import PrerequisiteError

_ROLE_OF_NAME = {
    "q": ("query", "q_proj", "q_lin", "query_proj", "q"),
    "kv": ("key", "value", "k_proj", "v_proj", "k_lin", "v_lin", "key_proj", "value_proj", "k", "v"),
    "qkv": ("Wqkv", "c_attn", "query_key_value", "qkv_proj"),
    "attention out": (
        "attention.output.dense", "out_lin", "o_proj", "attn.Wo", "attn.c_proj", "attention.dense", "out_proj",
    ),
    "feed-forward in": (
        "intermediate.dense", "lin1", "ffn.lin1", "c_fc", "dense_h_to_4h", "gate_proj", "up_proj", "fc1", "ffn",
    ),
    "gate and up": ("gate_up_proj", "mlp.Wi", "Wi"),
    "feed-forward out": (
        "output.dense", "lin2", "ffn.lin2", "mlp.c_proj", "dense_4h_to_h", "down_proj", "mlp.Wo", "fc2", "ffn_output",
    ),
}  # fmt: skip
_ROLES = {name: role for role, names in _ROLE_OF_NAME.items() for name in names}


@dataclass(frozen=True)
class Shape:
    """Sizes of one sequence classifier."""

    num_params: int
    """All parameters including the head, each counted once."""
    num_layers: int
    """Layers that a token passes through."""
    hidden: int
    intermediate: int
    """Width of the feed-forward block."""
    num_heads: int
    num_kv_heads: int
    head_dim: int
    gated: bool
    """Whether the feed-forward block has a third matrix, the gate."""
    vocab: int
    num_embedding_params: int
    """Parameters of tables that are looked up, not multiplied."""
    num_stored_layers: int
    """Layers with their own weights: 1 if all layers share them, as in ALBERT."""
    fused_attention: bool = True
    """Whether attention probabilities are never stored (SDPA or flash attention)."""
    checkpointing: bool = True
    """Whether the backward pass can recompute activations."""

    @property
    def q_width(self) -> int:
        """Width of the queries."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of the keys, and that of the values."""
        return self.num_kv_heads * self.head_dim

    @cached_property
    def layer_matrices(self) -> int:
        """Weights of the matrices of one layer: four projections and two or three feed-forward matrices.

        Capped at the parameters outside the embeddings: MobileBERT's layers are narrower inside than their width.
        """
        attention = 2 * self.hidden * (self.q_width + self.kv_width)
        by_width = attention + (3 if self.gated else 2) * self.hidden * self.intermediate
        outside_embeddings = (self.num_params - self.num_embedding_params) // self.num_stored_layers
        return min(by_width, outside_embeddings) if self.num_params else by_width

    @property
    def layer_params(self) -> int:
        """All weights of one layer: matrices, biases and norms; gated families have no biases."""
        biases = 0 if self.gated else self.q_width + 2 * self.kv_width + 4 * self.hidden + self.intermediate
        return self.layer_matrices + biases + 2 * self.hidden

    @property
    def num_linear_params(self) -> int:
        """Stored weights of the matrices of all layers, to which 4-bit storage applies."""
        return self.num_stored_layers * self.layer_matrices

    def forward_flops(self, num_tokens: float) -> float:
        """Return the floating-point operations of one forward pass over one text of `num_tokens`.

        Two per weight and token, plus 4 x width per pair of tokens and layer for the attention scores and the weighted
        sum. Embeddings are looked up, and the head reads one token, so neither is counted.
        Source: Kaplan et al. 2020, table 1.
        """
        attention = 4.0 * self.q_width * num_tokens**2
        return self.num_layers * (2.0 * self.layer_matrices * num_tokens + attention)

    def lora_params(self, target_modules: Iterable[str], r: int) -> int:
        """Return the number of LoRA weights of rank `r` for `target_modules` in every stored layer.

        Each module has r * (inputs + outputs). A module name of unknown role counts as a square matrix.
        Source: Hu et al. 2021, section 4.1.
        """
        return self.num_stored_layers * sum(r * sum(self._sides(name)) for name in target_modules)

    def _sides(self, name: str) -> tuple[int, int]:
        role = _ROLES.get(name) or _ROLES.get(name.rpartition(".")[2])
        sides = {
            "q": (self.hidden, self.q_width),
            "kv": (self.hidden, self.kv_width),
            "qkv": (self.hidden, self.q_width + 2 * self.kv_width),
            "attention out": (self.q_width, self.hidden),
            "feed-forward in": (self.hidden, self.intermediate),
            "gate and up": (self.hidden, 2 * self.intermediate),
            "feed-forward out": (self.intermediate, self.hidden),
        }
        return sides.get(role or "", (self.hidden, self.hidden))

    def head_params(self, num_labels: int, num_dense: int) -> int:
        """Return the number of weights of the classification head, biases included.

        `num_dense` square layers come before the last one. The bias of the last layer is counted for encoders and
        decoders alike; decoders have none, so their number is `num_labels` too high.
        """
        return num_dense * (self.hidden + 1) * self.hidden + (self.hidden + 1) * num_labels

    def first_layers(self, num_layers: int) -> Shape:
        """Return the shape of the same model truncated to its first `num_layers`."""
        if num_layers >= self.num_layers:
            return self
        lost = 0 if self.num_stored_layers == 1 else self.num_layers - num_layers
        num_stored = 1 if self.num_stored_layers == 1 else num_layers
        num_params = self.num_params - lost * self.layer_params
        return replace(self, num_params=num_params, num_layers=num_layers, num_stored_layers=num_stored)


def shape_of_size(size: ModelSize, family_name: str, family: Family) -> Shape:
    """Return the shape that a catalogue entry states."""
    return Shape(
        num_params=size.num_params,
        num_layers=size.num_hidden_layers,
        hidden=size.hidden_size,
        intermediate=size.intermediate_size,
        num_heads=size.num_attention_heads,
        num_kv_heads=size.num_key_value_heads,
        head_dim=size.head_dim or size.hidden_size // size.num_attention_heads,
        gated=family_name in GATED,
        vocab=size.vocab_size,
        num_embedding_params=size.num_embedding_params,
        num_stored_layers=1 if family_name == "albert" else size.num_hidden_layers,
        fused_attention=family.sdpa,
        checkpointing=family.gradient_checkpointing,
    )


GATED = {"llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "modernbert", "modernbert-decoder", "eurobert",
         "mistral", "smollm3", "qwen3_5_text"}  # fmt: skip
UNFUSED = {"deberta-v2", "gemma2", "mpnet", "xlnet"}
"""Families whose attention in transformers stores the attention probabilities."""
NO_CHECKPOINTING = {"albert", "mpnet", "xlnet"}
NUM_DENSE_IN_HEAD = {"roberta": 1, "electra": 1, "distilbert": 1, "deberta-v2": 1, "eurobert": 1, "modernbert": 1}
"""Number of square layers in the head before the last one, by family."""
LEARNED_POSITIONS = {"bert", "electra", "roberta", "distilbert", "gpt2", "albert", "mobilebert", "mpnet"}


def shape_of_config(config: Mapping[str, Any], *, num_params: int | None = None) -> Shape:
    """Return the shape that a transformers config.json describes.

    `num_params` is the counted number; without it, matrices, biases, norms and embeddings are added up, which is within
    1 % for the families of the catalogue.
    Raises: KeyError if the config lacks a size; PrerequisiteError if one is not a whole number above 0.
    """
    family = str(config["model_type"])
    hidden = _first(config, "hidden_size", "n_embd", "dim", "d_model")
    layers = _first(config, "num_hidden_layers", "n_layer", "n_layers")
    heads = _first(config, "num_attention_heads", "n_head", "n_heads")
    inner = _first(config, "intermediate_size", "n_inner", "hidden_dim", default=4 * hidden)
    embedding_width = _first(config, "embedding_size", default=hidden)
    vocab = _first(config, "vocab_size")
    positions = (
        _first(config, "max_position_embeddings", "n_positions", default=0) if family in LEARNED_POSITIONS else 0
    )
    embeddings = (vocab + positions + _first(config, "type_vocab_size", default=0)) * embedding_width
    shape = Shape(
        num_params=0,
        num_layers=layers,
        hidden=hidden,
        intermediate=inner,
        num_heads=heads,
        num_kv_heads=_first(config, "num_key_value_heads", default=heads),
        head_dim=_first(config, "head_dim", default=hidden // heads),
        gated=family in GATED,
        vocab=vocab,
        num_embedding_params=embeddings,
        num_stored_layers=1 if family == "albert" else layers,
        fused_attention=family not in UNFUSED,
        checkpointing=family not in NO_CHECKPOINTING,
    )
    if num_params is None:
        dense = NUM_DENSE_IN_HEAD.get(family, 1 if family in ("bert", "albert") else 0)
        projection = (embedding_width + 1) * hidden if embedding_width != hidden else 0
        layers_and_head = shape.num_stored_layers * shape.layer_params + shape.head_params(2, dense)
        num_params = embeddings + projection + 2 * hidden + layers_and_head
    return replace(shape, num_params=num_params)


def _first(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    """Return the first of the sizes `names` that is given, and neither null nor 0 if there is a `default`."""
    for name in names:
        value = config.get(name)
        if value is None or (value == 0 and default is not None):
            continue
        if type(value) is not int or value < 1:  # True is no size
            raise PrerequisiteError(
                f"config.json of a model of type {config['model_type']!r}: {name} is {str(value)[:40]!r}; allowed is a "
                "whole number above 0; get the configuration that belongs to the weights"
            )
        return value
    if default is None:
        raise KeyError(f"the config has none of {', '.join(names)}")
    return default
