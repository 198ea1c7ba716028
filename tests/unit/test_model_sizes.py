"""Sizes of the catalogue against models that transformers builds from the same shape, without memory (meta device)."""

import json

import pytest

from moodbench.cli.catalogue import model_rows
from moodbench.config import load_catalogue

CATALOGUE = load_catalogue()
SIZED = [name for name, entry in CATALOGUE.models.items() if entry.size]
NAMED = [
    "BERT-tiny",
    "BERT-mini",
    "BERT-small",
    "ELECTRA-small",
    "MiniLM-L12",
    "DistilBERT-base",
    "DistilRoBERTa",
    "DeBERTa-v3-small",
    "BERT-base",
    "RoBERTa-base",
    "GPT2-small",
    "Pythia-70m",
    "Pythia-160m",
    "Gemma-2-2B",
    "Gemma-3-270M",
    "TinyLlama-1.1B",
    "Qwen2.5-1.5B",
    "SmolLM2-1.7B",
    "Phi-3-mini",
    "DialoGPT-small",
    "DistilGPT2",
    "Pythia-410m",
    "ModernBERT-base",
    "ModernBERT-large",
    "Ettin-17m",
    "Ettin-32m",
    "Ettin-68m",
    "Ettin-150m",
    "Ettin-400m",
    "DeBERTa-v3-xsmall",
    "DeBERTa-v3-base",
    "MobileBERT",
    "TinyBERT-4L",
    "ALBERT-base-v2",
    "bge-small-en-v1.5",
    "EuroBERT-210m",
    "SmolLM2-135M",
    "SmolLM2-360M",
    "Qwen3-0.6B",
    "Llama-3.2-1B",
    "Gemma-3-1B",
    "Phi-4-mini",
]
PUBLISHED = {
    # Totals that the makers print, of the language model; a decoder's untied output matrix is not in a classifier.
    "GPT2-small": 124_439_808 + 2 * 768,
    "Pythia-70m": 70_426_624 - 50304 * 512 + 2 * 512,
    "Pythia-160m": 162_322_944 - 50304 * 768 + 2 * 768,
    "TinyLlama-1.1B": 1_100_048_384 - 32000 * 2048 + 2 * 2048,
    "DistilGPT2": 81_912_576 + 2 * 768,
    "Gemma-3-270M": 268_098_176 + 2 * 640,
    "Gemma-2-2B": 2_614_341_888 + 2 * 2304,
}
DEBERTA = {
    "relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0,
}  # fmt: skip
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
FURTHER = {
    # What decides the shape beside the sizes of the catalogue, from the checkpoints' published configurations.
    "electra": {"embedding_size": 128},
    "albert": {"embedding_size": 128},
    "roberta": {"type_vocab_size": 1},
    "deberta-v2": DEBERTA,
    "modernbert": SPECIAL | {"cls_token_id": 1, "sep_token_id": 2},
    "phi3": SPECIAL,
    "mobilebert": {"embedding_size": 128, "true_hidden_size": 128, "intra_bottleneck_size": 128,
                   "num_feedforward_networks": 4, "classifier_activation": False},
}  # fmt: skip
SPELLING = {
    "distilbert": {"num_hidden_layers": "n_layers", "hidden_size": "dim", "num_attention_heads": "n_heads",
                   "intermediate_size": "hidden_dim", "context_length": "max_position_embeddings"},
    "gpt2": {"num_hidden_layers": "n_layer", "hidden_size": "n_embd", "num_attention_heads": "n_head",
             "intermediate_size": "n_inner", "context_length": "n_positions"},
}  # fmt: skip
HEAD_SHARING = {"llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "eurobert"}


def configuration(entry):
    """The transformers configuration of an entry's size."""
    from transformers import AutoConfig

    size = entry.size.model_dump(exclude={"num_params", "num_embedding_params"}, exclude_none=True)
    if entry.family not in HEAD_SHARING:
        assert size["num_key_value_heads"] == size["num_attention_heads"]
        del size["num_key_value_heads"]
    if entry.family == "roberta":
        size["context_length"] += 2  # its positions start at 2
    names = {"context_length": "max_position_embeddings", **SPELLING.get(entry.family, {})}
    values = {names.get(key, key): value for key, value in size.items()}
    further = dict(FURTHER.get(entry.family, {}))
    if entry.family == "deberta-v2":
        further["pooler_hidden_size"] = entry.size.hidden_size
    return AutoConfig.for_model(entry.family, num_labels=2, **values, **further)


@pytest.fixture(scope="module")
def built():
    """Each model's configuration as JSON -> the model on the meta device; equal shapes are built once."""
    return {}


@pytest.mark.parametrize("name", SIZED)
def test_the_sizes_are_those_of_the_model_that_transformers_builds(name, built):
    import torch
    from transformers import AutoModelForSequenceClassification

    entry = CATALOGUE.models[name]
    config = configuration(entry)
    key = json.dumps(config.to_dict(), sort_keys=True, default=str)
    if key not in built:
        with torch.device("meta"):
            built[key] = AutoModelForSequenceClassification.from_config(config)
    model = built[key]
    embeddings = {p for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters(recurse=False)}
    assert sum(p.numel() for p in model.parameters()) == entry.size.num_params
    assert sum(p.numel() for p in embeddings) == entry.size.num_embedding_params


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_sizes_agree_with_the_makers_totals(name):
    assert CATALOGUE.models[name].size.num_params == PUBLISHED[name]


def test_the_catalogue_has_every_model_and_each_can_be_listed_with_its_figures():
    rows = {row["name"]: row for row in model_rows(CATALOGUE)}
    assert set(NAMED) <= set(rows)
    for name in NAMED:
        row, entry = rows[name], CATALOGUE.models[name]
        assert row["weights"] == f"hub {entry.source.hub}"
        assert {key: row[key] for key in type(entry.size).model_fields} == entry.size.model_dump()
        assert row["lora_targets"] == list(CATALOGUE.families[entry.family].attention)
        assert set(row["batch_size"]) == {"cpu", "cuda", "mps"}
        assert row["licence"] and "revision" in row
    assert [name for name in rows if rows[name]["gated"]] == [
        "Gemma-2-2B",
        "Gemma-3-270M",
        "Llama-3.2-1B",
        "Gemma-3-1B",
    ]


def test_groups_follow_from_size_and_kind():
    for name in SIZED:
        entry = CATALOGUE.models[name]
        decoder = CATALOGUE.families[entry.family].kind == "decoder"
        large = decoder and entry.size.num_params >= 250e6
        assert entry.group == ("ultra-tiny" if entry.size.num_params < 50e6 else "small-llm" if large else "tiny"), name
