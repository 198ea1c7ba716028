"""What works on which device: every decision for every device, and where a request that cannot be is refused."""

import json
from dataclasses import replace

import pytest

from moodbench.benchmark.recipe import FitDevice, RequestedModel, recipe_of
from moodbench.config import load_catalogue
from moodbench.errors import SpecError
from moodbench.estimate import Load, shape_of_config
from moodbench.estimate.memory import Memory
from moodbench.models.families import published_in
from moodbench.models.features import (
    FEATURES,
    allowed_quantizations,
    check_optimizer,
    check_quantization,
    device_batch_size,
    needs_checkpointing,
    precision_of,
    support,
    weights_format,
)
from moodbench.spec import BenchmarkSpec, ResolvedModel

CATALOGUE = load_catalogue()
LABELS = ("negative", "positive")


def requested(name):
    entry = CATALOGUE.model(name)
    return RequestedModel(ResolvedModel(name=name, method=entry.method), entry)


YES = {
    "4-bit weights (nf4)": {"cuda", "cpu"},
    "8-bit weights (int8)": {"cuda", "cpu"},
    "training in fp32": {"cuda", "cpu", "mps"},
    "training in fp16": {"cuda"},
    "training in bf16": {"cuda", "cpu"},
    "optimizer adamw_8bit": {"cuda", "cpu"},
    "paged optimizers": {"cuda"},
    "gradient checkpointing": {"cuda", "cpu", "mps"},
    "pinned host memory": {"cuda"},
}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_each_feature_on_each_device_has_an_answer_with_a_reason(feature, device):
    assert support(feature, device).works == (device in YES[feature])
    assert len(support(feature, device).why) > 5


@pytest.mark.parametrize(
    ("wanted", "device", "safe", "format_"),
    [
        ("auto", "cuda", True, "fp16"), ("auto", "cuda", False, "bf16"), ("auto", "cpu", True, "fp32"),
        ("auto", "mps", True, "fp32"), ("bf16", "cpu", True, "bf16"), ("fp32", "mps", False, "fp32"),
    ],
)  # fmt: skip
def test_the_training_format(wanted, device, safe, format_):
    assert precision_of(wanted, device, "m", fp16_safe=safe) == format_


@pytest.mark.parametrize("fp16_safe", [True, False])
@pytest.mark.parametrize("published", [None, "fp32", "fp16", "bf16"])
@pytest.mark.parametrize("bf16_in_hardware", [True, False])
@pytest.mark.parametrize(
    ("device", "num_params"), [("cpu", 99_999_999), ("cpu", 100_000_000), ("cuda", 1), ("mps", 2e8)]
)
def test_auto_is_bf16_where_the_device_multiplies_it_for_large_models_on_a_cpu_and_those_that_need_it_on_cuda(
    device, num_params, bf16_in_hardware, published, fp16_safe
):
    if device != "cuda":
        expected = "bf16" if device == "cpu" and bf16_in_hardware and num_params >= 100_000_000 else "fp32"
    elif not fp16_safe:
        expected = "bf16"
    else:
        expected = {(True, "bf16"): "bf16"}.get((bf16_in_hardware, published), "fp16")
    assert (
        precision_of(
            "auto",
            device,
            "m",
            fp16_safe=fp16_safe,
            published=published,
            bf16_in_hardware=bf16_in_hardware,
            num_params=num_params,
        )
        == expected
    )
    for asked in ("fp32", "bf16"):
        if support(f"training in {asked}", device).works:
            more = {"published": published, "bf16_in_hardware": bf16_in_hardware}
            assert precision_of(asked, device, "m", fp16_safe=fp16_safe, **more) == asked, "what is asked for is done"


@pytest.mark.parametrize(
    ("name", "bf16_in_hardware", "format_"),
    [("Qwen2.5-1.5B", True, "bf16"), ("Qwen2.5-1.5B", False, "fp16"), ("Pythia-160m", True, "fp16"),
     ("BERT-base", True, "fp16"), ("Gemma-3-270M", False, "bf16")],
)  # fmt: skip
def test_a_recipe_for_cuda_takes_the_format_of_the_published_weights_where_the_card_has_it(
    name, bf16_in_hardware, format_
):
    spec = BenchmarkSpec(models=[name], datasets=["x"])
    recipe = recipe_of(requested(name), FitDevice("cuda", bf16_in_hardware), LABELS, CATALOGUE, spec)
    assert recipe["train"].precision == format_
    if CATALOGUE.model(name).size.num_params >= 1e9:
        assert recipe["dtype"] == format_


@pytest.mark.parametrize(("key", "stated", "expected"), [("dtype", "bfloat16", "bf16"), ("torch_dtype", "float16", "fp16"),
                                                         ("dtype", "auto", None), ("other", "x", None)])  # fmt: skip
def test_the_published_format_of_a_model_of_ones_own_is_what_its_config_says(tmp_path, key, stated, expected):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", key: stated}))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert published_in("mine", CATALOGUE.model(str(tmp_path))) == expected


@pytest.mark.parametrize(
    ("decide", "message"),
    [
        (
            lambda: precision_of("fp16", "cpu", "m"),
            r"model m: train.precision 'fp16' on the CPU; allowed there are fp32",
        ),
        (lambda: precision_of("bf16", "mps", "m"), r"on Apple's GPU; allowed there is fp32"),
        (lambda: precision_of("fp16", "cuda", "m", fp16_safe=False), "overflow in fp16; use bf16"),
        (lambda: check_quantization("nf4", "mps", "m"), r"quantization 'nf4' on mps: .*; allowed there is none$"),
        (lambda: check_optimizer("paged_adamw_8bit", "cpu", "m"), r"'paged_adamw_8bit' on cpu: .* use adamw_8bit"),
        (lambda: check_optimizer("adamw_8bit", "mps", "m"), r"'adamw_8bit' on mps"),
    ],
)
def test_what_a_device_lacks_is_refused_with_what_it_has(decide, message):
    with pytest.raises(SpecError, match=message):
        decide()


def config_of(billions):
    """The config.json of a model like Llama with about so many billions of parameters, nearly all in its layers."""
    layers = round(billions * 1e9 / (4 * 2048**2 + 3 * 2048 * 5632))
    return {"model_type": "llama", "vocab_size": 1000, "num_hidden_layers": layers, "hidden_size": 2048,
            "num_attention_heads": 16, "intermediate_size": 5632}  # fmt: skip


def test_quantised_weights_and_those_too_large_in_fp32_are_16_bit_on_cuda():
    assert [allowed_quantizations(d) for d in ("cpu", "mps")] == [["none", "int8", "nf4"], ["none"]]
    for billions, gib, expected in ((1.5, 24, "fp32"), (1.5, 6, "fp16"), (0.3, 10, "fp32"), (0.3, 1.9, "fp16")):
        shape, load = shape_of_config(config_of(billions)), Load(2, 64, "cuda", "fp16")
        assert weights_format(shape, load, gib, 2) == expected, (billions, gib)
        assert weights_format(shape, replace(load, device="cpu"), gib, 2) == "fp32"
    small = Load(2, 64, "cuda", "bf16", quantization="nf4")
    assert weights_format(None, small, 80, 2) == "bf16"
    assert weights_format(None, replace(small, quantization="none"), 1, 2) == "fp32", "a model of unknown size"


def test_a_device_recipe_takes_16_bit_weights_where_fp32_does_not_fit():
    def dtype_on(gib, name="Phi-3-mini"):
        spec = BenchmarkSpec(models=[name], datasets=["x"])
        return recipe_of(requested(name), FitDevice("cuda", True, gib), LABELS, CATALOGUE, spec)["dtype"]

    assert [dtype_on(gib) for gib in (10, 80)] == ["bf16", "fp32"]
    assert [dtype_on(gib, "BERT-base") for gib in (2, 10)] == ["fp16", "fp32"]


@pytest.mark.parametrize(
    ("changes", "gib", "expected"),
    [({}, 40, False), ({}, 8.5, True), ({"model_type": "xlnet"}, 8.5, False), ({"hidden_size": None}, 8.5, True),
     ({"hidden_size": None}, 80, False)],
)  # fmt: skip
def test_activations_are_recomputed_where_training_would_not_fit(changes, gib, expected):
    load = Load(16, 256, "cuda", "fp16", "fp16", num_trained=1_000_000)
    config = config_of(1.5) | changes
    assert needs_checkpointing(config, 1_500_000_000, load, Memory("cuda", 64.0, gib)) == expected


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_activations_are_recomputed_without_cuda_too_if_memory_is_short(device):
    load = Load(16, 256, device, num_trained=1_000_000)
    found = [needs_checkpointing(config_of(0.3), 300_000_000, load, Memory(device, gib)) for gib in (6.0, 64.0)]
    assert found == [True, False]


@pytest.mark.parametrize(
    ("name", "device", "batch", "effective"),
    [
        ("Gemma-2-2B", "cuda", 4, 16),
        ("Gemma-2-2B", "mps", 2, 16),
        ("BERT-tiny", "mps", 32, 32),
        ("MiniLM-L6", "cpu", 32, 32),
    ],
)
def test_the_batch_on_a_device_is_the_catalogues_and_the_effective_one_stays(name, device, batch, effective):
    assert device_batch_size(CATALOGUE.model(name), 32, device) == batch
    spec = BenchmarkSpec(models=[name], datasets=["x"])
    recipe = recipe_of(requested(name), FitDevice(device), LABELS, CATALOGUE, spec)
    assert (recipe["train"].max_device_batch_size, recipe["train"].effective_batch_size) == (batch, effective)


@pytest.mark.parametrize(("num_params", "texts"), [(1, 32), (49_999_999, 32), (50_000_000, 16), (124_000_000, 16),
                                                  (360_000_000, 8), (1_235_000_000, 4), (3_800_000_000, 2)])  # fmt: skip
def test_a_model_of_ones_own_gets_smaller_batches_on_apples_gpu_the_larger_it_is(num_params, texts):
    mine = CATALOGUE.model("owner/model")
    assert device_batch_size(mine, 32, "mps", num_params) == texts
    assert device_batch_size(mine, 1, "mps", num_params) == 1
    assert {device_batch_size(mine, 32, device, num_params) for device in ("cpu", "cuda")} == {32}


def test_batches_on_apples_gpu_are_for_any_model_what_the_catalogue_gives_to_its_size():
    for name, entry in CATALOGUE.models.items():
        if entry.batch_size is not None and entry.size is not None:
            own = entry.model_copy(update={"batch_size": None})
            assert device_batch_size(own, 32, "mps", entry.size.num_params) == entry.batch_size.mps, name


def test_a_request_chooses_quantisation_and_the_recipe_says_so():
    spec = BenchmarkSpec(models=["MiniLM-L6"], datasets=["x"], quantization="nf4")
    recipe = recipe_of(requested("MiniLM-L6"), FitDevice("cpu"), LABELS, CATALOGUE, spec)
    assert (recipe["quantization"], recipe["dtype"]) == ("nf4", "fp32")
    spec = BenchmarkSpec(models=["x"], datasets=["x"])
    gemma = recipe_of(requested("Gemma-2-2B"), FitDevice("cuda"), LABELS, CATALOGUE, spec)
    assert (gemma["train"].precision, gemma["dtype"]) == ("bf16", "bf16")
