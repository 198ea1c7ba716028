"""Every way to write LoRA down reaches peft, starts where the base model stands, and is saved as what was learned."""

import pytest
from test_families import spec_for
from test_models import FAMILY, LORA, tiny_bert
from tiny_models import rows, save_checkpoint

from moodbench.config import load_catalogue
from moodbench.config.schema import LoraDefaults
from moodbench.errors import PrerequisiteError, SpecError
from moodbench.models.adapter import add_lora, initial_adapter, merge_adapter, save_adapter
from moodbench.models.base import BaseModel
from moodbench.models.features import check_lora
from moodbench.training.checkpoints import CheckpointArea
from moodbench.training.fitting import fit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes"),
]
STARTS = ("default", "gaussian", "olora", "pissa", "pissa_niter_16", "orthogonal", "mica")
VARIANTS = [
    *({"init_lora_weights": start} for start in STARTS),
    {"use_rslora": True},
    {"use_dora": True},
    {"use_dora": True, "use_rslora": True, "init_lora_weights": "pissa"},
    {"use_rslora": True, "init_lora_weights": "olora"},
]


def variant(**changes) -> LoraDefaults:
    return LoraDefaults.model_validate(LORA.model_dump() | changes)


def tokens():
    import torch

    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 3000, (6, 9), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_variant_starts_as_the_base_model_and_is_saved_as_what_was_learned(changes, tmp_path):
    import torch
    from peft import PeftModel

    lora, targets = variant(**changes), (*FAMILY.attention, *FAMILY.feed_forward)
    torch.manual_seed(5)
    model = add_lora(BaseModel(tiny_bert(1), ("classifier",)), lora, targets)
    config = model.peft_config["default"]
    assert (config.use_rslora, config.use_dora) == (lora.use_rslora, lora.use_dora)
    assert config.init_lora_weights == (True if lora.init_lora_weights == "default" else lora.init_lora_weights)
    initial = initial_adapter(model, lora)
    with torch.inference_mode():
        before = model.eval()(**tokens()).logits
        plain = tiny_bert(1).eval()(**tokens()).logits
    near = 0.5 if lora.init_lora_weights == "orthogonal" else 1e-5  # orthogonal A and B do not multiply to exactly 0
    assert (before - plain).abs().max() < near
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    save_adapter(model, tmp_path, initial)
    with torch.inference_mode():
        learned = model(**tokens()).logits
        merged = merge_adapter(tiny_bert(1), tmp_path).eval()(**tokens()).logits
        loaded = PeftModel.from_pretrained(tiny_bert(1), tmp_path).eval()(**tokens()).logits
    assert (learned - plain).abs().max() > 0.01
    torch.testing.assert_close(merged, learned, atol=2e-5, rtol=0)
    torch.testing.assert_close(loaded, learned, atol=2e-5, rtol=0)


def test_mica_learns_one_matrix_and_the_scale_of_rslora_is_alpha_over_the_root_of_the_rank():
    frozen = add_lora(BaseModel(tiny_bert(1), ("classifier",)), variant(init_lora_weights="mica"), FAMILY.attention)
    learned = {name for name, p in frozen.named_parameters() if p.requires_grad and "lora_" in name}
    assert learned and all("lora_A" in name for name in learned)
    scaled = add_lora(BaseModel(tiny_bert(1), ("classifier",)), variant(use_rslora=True, r=4), FAMILY.attention)
    query = scaled.base_model.model.bert.encoder.layer[0].attention.self.query
    assert query.scaling["default"] == pytest.approx(LORA.lora_alpha / 2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    save_checkpoint(folder, "bert", decoder=False)
    return folder


def fitted(checkpoint, out, lora, quantization="none", **train):
    """The adapter that a whole fit writes, tensor by tensor, and its outcome."""
    import torch
    from safetensors.torch import load_file

    from moodbench.models.device import prepare_torch

    threads = torch.get_num_threads()
    prepare_torch(1)
    spec = spec_for(checkpoint, "bert", quantization)
    changes = {"lora": lora, "train": spec.train.model_copy(update={"epochs": 1, "learning_rate": 1e-3, **train})}
    spec = spec.model_copy(update=changes)
    area = CheckpointArea(out / "checkpoints", lambda: 0)
    area.folder.mkdir(parents=True)
    artifact = out / "artifact"
    artifact.mkdir()
    outcome = fit(spec, rows(32, 1), rows(16, 2), artifact, "cpu", lambda _: None, area)
    torch.set_num_threads(threads)
    return load_file(artifact / "adapter" / "adapter_model.safetensors"), outcome


def test_loraplus_moves_b_so_many_times_as_far_in_one_step(checkpoint, tmp_path):
    # Adam's first step is the learning rate in size whatever the gradient, so B (0 before) is the rate itself.
    once = {
        "effective_batch_size": 32,
        "warmup_share": 0.0,
        "lr_scheduler": "constant_with_warmup",
        "weight_decay": 0.0,
    }
    plain, _ = fitted(checkpoint, tmp_path / "plain", variant(), **once)
    faster, _ = fitted(checkpoint, tmp_path / "faster", variant(loraplus_lr_ratio=4), **once)
    for name, tensor in plain.items():
        if "lora_B" in name:
            moved = tensor.abs() > 0.9e-3  # where the gradient is not lost in Adam's epsilon
            assert moved.any()
            assert (faster[name] / tensor)[moved].mean() == pytest.approx(4, rel=0.01)
        elif "lora_A" in name:
            assert (faster[name] - tensor).abs().max() < 1e-6


@pytest.mark.parametrize(("quantization", "use_dora"), [("nf4", True), ("int8", False)])
def test_variants_on_quantised_weights_are_fitted(checkpoint, tmp_path, quantization, use_dora):
    lora = variant(use_dora=use_dora, use_rslora=True, init_lora_weights="gaussian")
    tensors, outcome = fitted(checkpoint, tmp_path, lora, quantization)
    assert outcome.validation["f1_macro"] is not None
    assert any("lora_magnitude_vector" in name for name in tensors) == use_dora


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"init_lora_weights": "orthogonal", "r": 3}, ("orthogonal", "r 3", "even")),
        ({"init_lora_weights": "mica", "use_dora": True}, ("mica", "use_dora")),
        ({"init_lora_weights": "mica", "loraplus_lr_ratio": 4}, ("mica", "loraplus_lr_ratio")),
        ({"init_lora_weights": "lucky"}, ("pissa_niter_16",)),
        ({"loraplus_lr_ratio": 0.5}, ("greater than or equal to 1",)),
    ],
)
def test_what_cannot_be_had_at_once_is_refused(changes, words):
    with pytest.raises(ValueError) as caught:
        variant(**changes)
    assert all(word in str(caught.value) for word in words)


def test_a_start_taken_from_the_weights_wants_them_whole_and_wide_enough():
    with pytest.raises(SpecError, match=r"'pissa'.*nf4; allowed there are default, gaussian"):
        check_lora(variant(init_lora_weights="pissa"), "nf4", "tiny")
    with pytest.raises(
        SpecError, match=r"model tiny: lora.use_dora .*int8 of bitsandbytes does not keep; use nf4 or none"
    ):
        check_lora(variant(use_dora=True), "int8", "tiny")
    with pytest.raises(PrerequisiteError, match=r"lora.r 64 .*pissa: .* is 16 wide; allowed are ranks up to 16"):
        add_lora(BaseModel(tiny_bert(1), ("classifier",)), variant(init_lora_weights="pissa", r=64), FAMILY.attention)


def test_each_variant_has_its_own_id_and_the_default_is_plain_lora(checkpoint):
    spec = spec_for(checkpoint, "bert", "none")
    plain = spec.lora.model_dump(exclude={"use_rslora", "use_dora", "init_lora_weights", "loraplus_lr_ratio"})
    others = [{"use_rslora": True}, {"use_dora": True}, {"init_lora_weights": "mica"}, {"loraplus_lr_ratio": 2}]
    ids = {spec.model_copy(update={"lora": variant(**changes)}).fit_id for changes in others}
    assert len(ids | {spec.fit_id}) == 5
    assert load_catalogue().training.lora == LoraDefaults.model_validate(plain | {"lora_dropout": 0.05,
        "target_modules": "attention"})  # fmt: skip
