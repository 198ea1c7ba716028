"""Estimates against counted models, published byte counts, hand-worked sums and properties."""

import re
from dataclasses import replace

import pytest

from moodbench.config import load_catalogue
from moodbench.errors import PrerequisiteError
from moodbench.estimate import History, Load, Shape, fit_memory, place, shape_of_config, shape_of_size
from moodbench.estimate.duration import DataSize, forward_s
from moodbench.estimate.estimator import Observation
from moodbench.estimate.memory import (
    activation_bytes,
    gpu_share,
    needed_bytes,
    predict_memory,
    prediction_load,
    weights_bytes,
)
from moodbench.hardware import GIB

DEVICES = load_catalogue().devices
BERT_BASE = shape_of_config(
    {
        "model_type": "bert",
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    }
)
LLAMA_2_7B = shape_of_config(
    {
        "model_type": "llama",
        "vocab_size": 32000,
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "intermediate_size": 11008,
    }
)
CONFIGS = {
    "bert": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256},
    "electra": {"hidden_size": 64, "embedding_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    "roberta": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256},
    "distilbert": {"dim": 64, "n_layers": 3, "n_heads": 4, "hidden_dim": 256},
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4},
    "gpt_neox": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256},
    "llama": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2},
    "qwen2": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2},
    "phi3": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "pad_token_id": 0},
    "gemma3_text": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 32},
    "modernbert": {
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "pad_token_id": 0,
    },
}


@pytest.mark.parametrize("family", CONFIGS)
def test_parameters_are_within_two_percent_of_those_that_transformers_makes(family):
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model(family, vocab_size=2000, num_labels=2, **CONFIGS[family])
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    counted = sum(p.numel() for p in model.parameters())
    shape = shape_of_config(config.to_dict())
    assert shape.num_params == pytest.approx(counted, rel=0.02)
    matrices = sum(
        m.weight.numel()
        for name, m in model.named_modules()
        if type(m).__name__ in ("Linear", "Conv1D") and any(part.isdigit() for part in name.split("."))
    )
    assert shape.num_linear_params == matrices


def test_a_published_model_has_its_published_parameters():
    # google-bert/bert-base-uncased as a two-label classifier: 109,483,778; transformers prints the same.
    assert BERT_BASE.num_params == 109_483_778
    # Llama 2 7B without its output layer: 6.607e9 (6,738,415,616 - 32,000 x 4,096).
    assert LLAMA_2_7B.num_params == pytest.approx(6_607_343_616, rel=1e-4)


def test_matrices_and_embeddings_make_up_the_counted_parameters_of_every_model_of_the_catalogue():
    catalogue = load_catalogue()
    sized = {name: entry for name, entry in catalogue.models.items() if entry.size is not None}
    assert len(sized) > 40
    for name, entry in sized.items():
        shape = shape_of_size(entry.size, entry.family, catalogue.families[entry.family])
        share = (shape.num_linear_params + shape.num_embedding_params) / shape.num_params
        assert 0.93 < share <= 1, (name, share)  # norms, biases, pooler and head are the rest; ALBERT has most of it


def test_adapter_parameters_are_those_that_records_of_fits_name():
    # The quickstart's MiniLM-L3 trains 166,658 parameters: 3 x (4 x 8 x 768 + 2 x 8 x 1,920) and a head of 770.
    mini = shape_of_config(
        {
            "model_type": "bert",
            "vocab_size": 30522,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
            "num_hidden_layers": 6,
            "hidden_size": 384,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
        }
    )
    assert mini.num_params == 22_713_986
    three = mini.first_layers(3)
    targets = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
    assert three.lora_params(targets, 8) + three.head_params(2, 0) == 166_658
    assert three.num_params == 17_390_594  # its record names 17,557,252, with the adapter and a copy of the head
    assert 17_390_594 + 166_658 == 17_557_252
    # Hu et al. 2021, table 2: RoBERTa-base with r 8 on query and value trains 0.3 M.
    assert BERT_BASE.lora_params(("query", "value"), 8) == 294_912


def test_activations_are_those_of_korthikanti():
    # Korthikanti et al. 2022, equation 1: s b h (34 + 5 a s / h) bytes per layer in 16 bit with dropout.
    s, b, h, a = 512, 4, 768, 12
    load = Load(b, s, "cuda", precision="fp16", weights_precision="fp16")
    stored = replace(BERT_BASE, num_layers=1, fused_attention=False)
    # The paper counts the shared input of query, key and value once, as we do, and stores two norm inputs.
    assert activation_bytes(stored, load) == s * b * h * 34 + 5 * a * s * s * b
    # With fp32 weights: two more 16-bit copies for the projections, and both norms read fp32 numbers.
    mixed = replace(load, weights_precision="fp32")
    assert activation_bytes(stored, mixed) == s * b * h * (34 + 2 * 2 + 2 * 2) + 5 * a * s * s * b
    assert activation_bytes(replace(stored, fused_attention=True), load) == s * b * h * 34
    # With checkpointing of every layer: 2 s b h for each, and one layer whole.
    twelve = activation_bytes(BERT_BASE, replace(load, checkpointing=True))
    assert twelve == 12 * 2 * s * b * h + s * b * h * 34


def test_four_bit_weights_are_those_of_qlora():
    # Dettmers et al. 2023: 7B weights in NF4 take about 3.6 GB with 16-bit embeddings here (3.2e9 x ... = 3.34 + 0.26).
    load = Load(1, 512, "cuda", precision="fp16", weights_precision="fp16", quantization="nf4")
    assert weights_bytes(LLAMA_2_7B, load) == pytest.approx(6_476_005_376 * 0.516 + 131_338_240 * 2, rel=1e-4)
    assert weights_bytes(LLAMA_2_7B, replace(load, quantization="none")) == 2 * LLAMA_2_7B.num_params


def test_more_of_anything_needs_more_memory():
    base = Load(8, 128, "cuda", precision="fp16", num_trained=10**6)
    need = fit_memory(BERT_BASE, base).device_bytes
    assert fit_memory(BERT_BASE, replace(base, batch_size=16)).device_bytes > need
    assert fit_memory(BERT_BASE, replace(base, num_tokens=256)).device_bytes > need
    assert fit_memory(BERT_BASE, replace(base, num_trained=2 * 10**6)).device_bytes > need
    assert fit_memory(BERT_BASE, replace(base, checkpointing=True)).device_bytes < need
    assert fit_memory(BERT_BASE, replace(base, quantization="nf4")).device_bytes < need
    assert predict_memory(BERT_BASE, base).device_bytes < need


def test_what_does_not_fit_is_made_to_fit_or_says_why():
    card, mac = DEVICES["rtx-3080-10g"], DEVICES["mac-16g"]
    asked = Load(32, 256, "cuda", precision="fp16", num_trained=10**7)
    small = place(BERT_BASE, asked, card)
    assert small.fits and not small.changes
    big = place(LLAMA_2_7B, asked, card)
    assert big.fits and big.load.quantization == "nf4" and big.changes[0] == "QLoRA (nf4)"
    assert big.memory.device_bytes < 10 * GIB
    assert not place(LLAMA_2_7B, asked, card, may_change=False).fits
    on_mac = place(LLAMA_2_7B, replace(asked, device="mps", precision="fp32"), mac)
    assert not on_mac.fits and on_mac.load.quantization == "none"
    assert "of memory even with batches of 1" in on_mac.reason and "of 16 GiB are usable" in on_mac.reason
    assert needed_bytes(on_mac.memory, mac) > 4 * LLAMA_2_7B.num_params
    told = [float(x) for x in re.findall(r"(?:weights|optimiser|activations|reserve) ([\d.]+)", on_mac.reason)]
    assert sum(told) == pytest.approx(float(re.search(r"needs ([\d.]+) GiB", on_mac.reason)[1]), abs=0.25)
    on_cpu = place(LLAMA_2_7B, replace(asked, device="cpu", precision="fp32"), DEVICES["cpu-16g"])
    assert on_cpu.fits and on_cpu.changes[0] == "QLoRA (nf4)" and on_cpu.load.weights_precision == "fp32"
    # 6.5 billion weights in 4 bits are 3.1 GiB, the table of 32,000 words in fp32 is 0.5.
    assert 3.6 * GIB < on_cpu.memory.weights < 3.7 * GIB


def test_a_gpu_is_shared_by_fits_of_up_to_half_of_it():
    card = DEVICES["a10g-24g"]
    assert gpu_share(int(22.5 * GIB) // 4, card) == pytest.approx(0.25)
    assert gpu_share(int(22.5 * GIB * 0.6), card) == 1.0
    assert gpu_share(int(22.5 * GIB * 2), card) == pytest.approx(2.0)
    assert gpu_share(GIB, DEVICES["cpu-16g"]) == 0.0


def test_time_is_bound_by_arithmetic_or_by_traffic():
    device = DEVICES["cpu-16g"].model_copy(update={"tflops": {"fp32": 1.0}, "efficiency": 0.5, "bandwidth_gb_s": 1e9})
    # 2 x 84,934,656 weights x 100 tokens + 12 x 4 x 768 x 100^2 operations at 0.5e12 per second, 10 texts.
    by_hand = 10 * (2 * 84_934_656 * 100 + 12 * 4 * 768 * 100**2) / 0.5e12
    assert forward_s(BERT_BASE, device, Load(10, 100), 10, 100) == pytest.approx(by_hand)
    slow_memory = device.model_copy(update={"tflops": {"fp32": 1e6}, "bandwidth_gb_s": 1.0})
    at_least = BERT_BASE.num_params * 4 / 1e9
    assert forward_s(BERT_BASE, slow_memory, Load(1, 1), 1, 1) == pytest.approx(at_least, rel=0.01)
    assert forward_s(BERT_BASE, slow_memory, Load(1, 1), 1, 1) > at_least


def seen(model, family, observed, machine="here", phase="fit", method="lora"):
    return Observation(phase, machine, method, family, model, 10.0, observed)


def test_history_corrects_by_the_nearest_that_ran():
    history = History.of(
        [seen("A", "bert", 20.0), seen("A", "bert", 30.0), seen("A", "bert", 100.0), seen("B", "bert", 5.0),
         seen("C", "gpt2", 40.0), seen("A", "bert", 900.0, machine="there"), seen("D", "bert", 0.0)]
    )  # fmt: skip
    assert history.correction("fit", "here", "lora", "bert", "A") == (3.0, 3)
    assert history.correction("fit", "here", "lora", "bert", "new") == (2.5, 4)  # median of 2, 3, 10 and 0.5
    assert history.correction("fit", "here", "lora", "llama", "new") == (3.0, 5)
    assert history.correction("fit", "there", "lora", "llama", "new") == (90.0, 1)
    assert history.correction("fit", "elsewhere", "lora", "bert", "A") == (1.0, 0)
    assert history.correction("evaluate", "here", "lora", "bert", "A") == (1.0, 0)


def test_texts_are_cut_at_the_longest_input():
    work = DataSize(100, 10, 20, mean_words=10, max_words=50).as_read(32)
    assert (work.mean_tokens, work.max_tokens) == (15.0, 32)
    assert DataSize(100, 10, 20, mean_words=1000).as_read(256).mean_tokens == 256


def test_shapes_are_plain_values():
    assert isinstance(BERT_BASE, Shape) and replace(BERT_BASE) == BERT_BASE


MINI_LM = {
    "model_type": "bert", "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_size": 384,
    "num_attention_heads": 12, "intermediate_size": 1536, "num_hidden_layers": 6,
}  # fmt: skip
SMOL_LM2 = {
    "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3,
    "intermediate_size": 1536, "num_hidden_layers": 30, "tie_word_embeddings": True, "max_position_embeddings": 8192,
}  # fmt: skip
MINI_LM_LOAD = Load(32, 68, dropout=False, num_trained=665_858)
SMOL_LM2_LOAD = Load(16, 72, dropout=False, num_trained=2_442_240, precision="bf16")


@pytest.mark.parametrize(
    ("config", "num_layers", "load", "peaks_gib"),
    [
        (MINI_LM, 6, MINI_LM_LOAD, (2.021, 1.808, 2.022)), (MINI_LM, 3, MINI_LM_LOAD, (1.634, 1.576, 1.637)),
        (SMOL_LM2, 30, SMOL_LM2_LOAD, (3.652, 3.471, 3.577)),
    ],
)  # fmt: skip
def test_memory_of_a_fit_on_a_cpu_covers_what_such_fits_took(config, num_layers, load, peaks_gib):
    # Peaks of the process of fits on 600 sentences of icwsm-movie (of 3 layers 1,024), three seeds.
    shape = shape_of_config(config).first_layers(num_layers)
    estimate = needed_bytes(fit_memory(shape, load), DEVICES["cpu-16g"]) / GIB
    assert max(peaks_gib) <= estimate <= 1.2 * max(peaks_gib)


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_size", "768"), ("hidden_size", [768, 512]), ("num_hidden_layers", 2.5), ("num_attention_heads", -1),
     ("vocab_size", {}), ("intermediate_size", [1, 2]), ("num_key_value_heads", "8"), ("head_dim", "x"),
     ("max_position_embeddings", "512"), ("type_vocab_size", [2]), ("num_attention_heads", 0)],
)  # fmt: skip
def test_a_size_that_is_no_whole_number_is_refused_with_its_name(name, value):
    config = {"model_type": "bert", "vocab_size": 100, "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2,
              "max_position_embeddings": 16}  # fmt: skip
    assert shape_of_config(config | dict.fromkeys(["intermediate_size", "head_dim", "type_vocab_size"])).num_params > 0
    with pytest.raises(PrerequisiteError, match=rf"type 'bert': {name} is .*whole number above 0"):
        shape_of_config(config | {name: value})


def test_what_fits_in_training_and_not_in_predicting_does_not_fit():
    card = DEVICES["rtx-3080-10g"]
    load = Load(1, 512, "cuda", precision="fp16", weights_precision="fp16", quantization="nf4", checkpointing=True)
    assert place(LLAMA_2_7B, load, card, may_change=False, prediction_batch_size=8).fits
    refused = place(LLAMA_2_7B, load, card, may_change=False, prediction_batch_size=4096)
    assert not refused.fits and refused.reason.startswith("evaluating needs") and "batches of 4096" in refused.reason


def test_a_model_of_16_bit_weights_predicts_in_them():
    phi = shape_of_config(
        {"model_type": "phi3", "vocab_size": 32064, "num_hidden_layers": 32, "hidden_size": 3072, "num_attention_heads": 32,
         "intermediate_size": 8192, "pad_token_id": 0}
    )  # fmt: skip
    load = Load(1, 256, "cuda", precision="fp16", weights_precision="fp16", num_trained=10_000_000)
    predicting = prediction_load(load, 32)
    assert predict_memory(phi, predicting).weights == 2 * phi.num_params == weights_bytes(phi, load)
    assert (predicting.batch_size, predicting.num_trained, predicting.checkpointing) == (32, 0, False)
