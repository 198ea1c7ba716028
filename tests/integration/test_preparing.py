"""What `LoRAConfigManager.prepare_model` promises, on tiny models on the CPU."""

import json

import pytest
from tiny_models import save_checkpoint

from moodbench.errors import SpecError
from moodbench.estimate import shape_of_config
from moodbench.estimate.memory import Load, Memory, weights_bytes
from moodbench.models import base
from moodbench.models.adapter import LoRAConfigManager
from moodbench.models.device import empty_model, parameter_bytes

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes"),
]
DECODERS = ("llama", "gpt2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    for family in ("bert", "albert", *DECODERS):
        (root / family).mkdir()
        save_checkpoint(root / family, family, decoder=family in DECODERS)
    return {family: str(root / family) for family in ("bert", "albert", *DECODERS)}


def prepared(folder, num_labels=3, quantization="none", **more):
    return LoRAConfigManager.prepare_model(folder, num_labels, "cpu", quantization=quantization, **more)


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
@pytest.mark.parametrize(("family", "head"), [("bert", "classifier"), ("llama", "score")])
def test_adapter_and_head_are_trained_in_fp32_and_nothing_else(folders, family, head, quantization):
    import torch

    model = prepared(folders[family], quantization=quantization).model
    names = trained(model)
    assert any(head in name for name in names) and any("lora_A" in name for name in names)
    assert all("lora_" in name or "modules_to_save" in name for name in names)
    assert {p.dtype for name, p in model.named_parameters() if name in names} == {torch.float32}
    assert model.config.num_labels == 3


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_nf4_holds_every_matrix_of_the_layers_and_never_the_head(folders, family):
    import bitsandbytes as bnb
    import torch

    model = prepared(folders[family], quantization="nf4").model.get_base_model()
    linear = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "lora_" not in n}
    quantised = {name for name, module in linear.items() if isinstance(module, bnb.nn.Linear4bit)}
    assert quantised and all(".layer" in name for name in quantised)
    assert not any(part in name for name in quantised for part in ("classifier", "score", "pooler"))
    assert all(name in quantised for name in linear if ".layer" in name)
    state = next(m.weight.quant_state for n, m in linear.items() if n in quantised)
    assert state.quant_type == "nf4" and state.nested, "scales are quantised again"


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_pads_on_the_right_with_a_token_that_its_model_knows(folders, family):
    made = prepared(folders[family])
    batch = made.tokenizer.pad([[5, 6, 7], [5]])
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, made.tokenizer.pad_id, made.tokenizer.pad_id]]
    assert made.model.config.pad_token_id == made.tokenizer.pad_id == made.tokenizer.hf.eos_token_id


@pytest.mark.parametrize(
    ("family", "quantization", "gib", "expected"),
    [
        ("bert", "none", 64.0, False),
        ("bert", "none", 0.5, True),
        ("llama", "nf4", 0.5, True),
        ("llama", "nf4", 64.0, False),
        ("albert", "none", 0.5, False),
    ],
)
def test_activations_are_computed_again_where_memory_is_short_and_the_architecture_has_it(
    folders, monkeypatch, family, quantization, gib, expected
):
    monkeypatch.setattr(base, "memory_of", lambda *_: Memory("cpu", gib))
    model = prepared(folders[family], quantization=quantization).model.get_base_model()
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules()) == expected
    if expected and family == "llama":
        assert model.config.use_cache is False


def test_a_backbone_in_bf16_keeps_its_head_in_fp32_and_answers(folders):
    import torch

    model = base.load_base(folders["bert"], ["a", "b"], 0, "none", "bf16", "cpu").model
    assert model.classifier.weight.dtype == torch.float32
    assert model.bert.encoder.layer[0].attention.self.query.weight.dtype == torch.bfloat16
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[2, 4, 3]])).logits
    assert logits.dtype == torch.float32 and bool(torch.isfinite(logits).all())


def casting_of_peft(folder, quantization):
    """The classifier as peft casts it for k-bit training, on plain transformers."""
    import torch
    from peft import prepare_model_for_kbit_training
    from transformers import AutoConfig, AutoModelForSequenceClassification

    empty = empty_model(AutoModelForSequenceClassification, AutoConfig.from_pretrained(folder))
    skipped = base.unquantised_modules(empty)
    made = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.bfloat16, num_labels=2, device_map={"": "cpu"},
        quantization_config=base.quantization_config(quantization, "bf16", skipped),
    )  # fmt: skip
    for module in made.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return prepare_model_for_kbit_training(made, use_gradient_checkpointing=False)


@pytest.mark.parametrize(
    ("family", "quantization"),
    [("bert", "nf4"), ("bert", "int8"), ("llama", "nf4"), ("llama", "int8"), ("gemma2", "nf4"), ("deberta-v2", "nf4")],
)
def test_a_quantised_16_bit_model_computes_what_peft_would_train_and_keeps_its_table_of_words_small(
    tmp_path, family, quantization
):
    import torch

    save_checkpoint(tmp_path, family, decoder=family in ("llama", "gemma2"))
    model = base.load_base(tmp_path, ["a", "b"], 0, quantization, "bf16", "cpu").model
    reference = casting_of_peft(tmp_path, quantization)
    for name in base.head_modules(reference):
        reference.get_submodule(name).load_state_dict(model.get_submodule(name).state_dict())
    table = model.get_input_embeddings().weight
    wide = [p for p in model.parameters() if p.is_floating_point() and p is not table]
    assert table.dtype == torch.bfloat16 and {p.dtype for p in wide} == {torch.float32}
    assert reference.get_input_embeddings().weight.dtype == torch.float32
    batch = {"input_ids": torch.tensor([[2, 4, 7, 3]])}
    for each in (model, reference):
        each.config.pad_token_id = 0
        each.eval()
    with torch.inference_mode():
        ours, theirs = model(**batch).logits, reference(**batch).logits
    # Gemma multiplies what is looked up by the root of its width, in the table's format.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02 if family == "gemma2" else 0)
    assert ours.dtype == torch.float32 and ours.abs().max() > 1e-3


def test_the_estimate_of_4_bit_weights_counts_the_table_of_words_at_16_bits(tmp_path):
    save_checkpoint(tmp_path, "llama", decoder=True, vocab_size=20_000, hidden_size=128, intermediate_size=256)
    model = base.load_base(tmp_path, ["a", "b"], 0, "nf4", "bf16", "cpu").model
    shape = shape_of_config(json.loads((tmp_path / "config.json").read_text()))
    load = Load(8, 32, "cuda", precision="bf16", weights_precision="bf16", quantization="nf4")
    assert weights_bytes(shape, load) == pytest.approx(parameter_bytes(model), rel=0.02)


def test_the_head_is_drawn_from_the_seed(folders):
    import torch

    first, again, other = (prepared(folders["bert"], seed=seed).model.get_base_model() for seed in (1, 1, 2))
    heads = [model.classifier.modules_to_save["default"].weight for model in (first, again, other)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize(
    ("name", "labels", "quantization", "device", "message"),
    [
        ("tfidf-logreg", 2, "none", "cpu", "its method is baseline"),
        ("MiniLM-L6", 1, "none", "cpu", "num_labels 1; a classifier needs 2 or more"),
        ("MiniLM-L6", 2, "nf4", "mps", "quantization 'nf4' on mps: .*; allowed there is none"),
    ],
)
def test_what_cannot_be_prepared_is_told(name, labels, quantization, device, message):
    with pytest.raises(SpecError, match=message):
        LoRAConfigManager.prepare_model(name, labels, device, quantization=quantization)
