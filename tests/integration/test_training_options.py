"""Options of fine-tuning beside its defaults: other losses, learning rates by layer, frozen layers, all weights."""

import json
import math

import numpy as np
import pytest
from test_families import fit_once, spec_for
from tiny_models import save_checkpoint

from moodbench.config import load_catalogue
from moodbench.training.loss import loss_function

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
DEFAULTS = load_catalogue().training.train


def losses(probabilities, labels, num_per_class, num_items=None, **changes):
    """The loss of texts with these class probabilities."""
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    function = loss_function(DEFAULTS.model_copy(update=changes), num_per_class)
    outputs = SequenceClassifierOutput(logits=torch.tensor(probabilities).log())
    return float(function(outputs, torch.tensor(labels), num_items))


PROBABILITIES = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]


def test_a_recipe_without_options_leaves_the_models_own_loss():
    assert loss_function(DEFAULTS, (3, 5)) is None


def test_focal_loss_by_hand():
    # -(1 - 0.9)^2 ln 0.9 = 0.001054, -(1 - 0.4)^2 ln 0.4 = 0.329865, -(1 - 0.8)^2 ln 0.8 = 0.008926: mean 0.113281
    assert losses(PROBABILITIES, [0, 1, 1], (1, 2), focal_gamma=2.0) == pytest.approx(0.113281, abs=1e-6)


def test_balanced_classes_by_hand():
    # 8 texts, 2 and 6: weights 8 / (2 x 2) = 2 and 8 / (2 x 6) = 2/3
    expected = (2 * -math.log(0.9) + 2 / 3 * -math.log(0.4) + 2 / 3 * -math.log(0.8)) / 3
    assert losses(PROBABILITIES, [0, 1, 1], (2, 6), class_weights="balanced") == pytest.approx(expected, rel=1e-5)
    each = [losses([[0.5, 0.5]], [label], (2, 6), class_weights="balanced") for label in (0, 1)]
    assert 2 * each[0] == pytest.approx(6 * each[1], rel=1e-5), "both classes weigh the same in all"
    assert 2 * each[0] + 6 * each[1] == pytest.approx(8 * math.log(2), rel=1e-5), "and all texts as much as before"


def test_label_smoothing_by_hand():
    # target 0.95 and 0.05: -(0.95 ln 0.9 + 0.05 ln 0.1) = 0.215222
    assert losses([[0.9, 0.1]], [0], (1, 1), label_smoothing=0.1) == pytest.approx(0.215222, abs=1e-6)


def test_passes_of_one_step_add_up_to_its_mean():
    whole = losses(PROBABILITIES, [0, 1, 1], (1, 2), focal_gamma=1.0)
    parts = [losses(PROBABILITIES[i : i + 1], [label], (1, 2), 3, focal_gamma=1.0) for i, label in enumerate((0, 1, 1))]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("options")
    for family, decoder in (("bert", False), ("llama", True)):
        (root / family).mkdir()
        save_checkpoint(root / family, family, decoder=decoder)
    yield root
    torch.set_num_threads(threads)


def fitted(checkpoints, out, family="bert", how="none", **changes):
    """What a fit of one epoch trained, tensor by tensor, and its outcome."""
    from safetensors.numpy import load_file

    out.mkdir()
    spec = spec_for(checkpoints / family, family, how)
    train = spec.train.model_copy(update={"epochs": 1, **changes})
    outcome = fit_once(spec.model_copy(update={"train": train}), out)
    (path,) = [*out.glob("adapter/*.safetensors"), *out.glob("weights.safetensors")]
    return load_file(path), outcome


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_accumulated_gradients_of_another_loss_are_those_of_one_pass(checkpoints, tmp_path, family):
    options = {"label_smoothing": 0.2, "focal_gamma": 1.0, "class_weights": "balanced", "learning_rate": 1e-3}
    once, _ = fitted(checkpoints, tmp_path / "once", family, **options)
    parts, _ = fitted(checkpoints, tmp_path / "parts", family, max_device_batch_size=4, **options)
    plain, _ = fitted(checkpoints, tmp_path / "plain", family, learning_rate=1e-3)
    for name in once:
        np.testing.assert_allclose(parts[name], once[name], atol=3e-4, err_msg=name)
    assert max(np.abs(once[name] - plain[name]).max() for name in once) > 1e-3, "the options change what is learned"


def first_step(checkpoints, out, **changes):
    """How far each trained tensor moves in one step of Adam at rate 1e-3, which is the rate whatever the gradient."""
    once = {"effective_batch_size": 96, "max_device_batch_size": 96, "warmup_share": 0.0, "learning_rate": 1e-3,
            "lr_scheduler": "constant_with_warmup", "weight_decay": 0.0}  # fmt: skip
    start, _ = fitted(checkpoints, out / "start", how="full", **once | {"learning_rate": 1e-30})
    end, _ = fitted(checkpoints, out / "end", how="full", **once, **changes)
    return {name: float(np.quantile(np.abs(end[name] - start[name]), 0.9)) for name in end}


def test_each_layer_learns_at_a_share_of_the_rate_of_the_next(checkpoints, tmp_path):
    moved = first_step(checkpoints, tmp_path, layer_lr_decay=0.5)
    layers = json.loads((checkpoints / "bert" / "config.json").read_text())["num_hidden_layers"]
    assert moved["classifier.weight"] == pytest.approx(1e-3, rel=0.02)
    for layer in range(layers):
        name = f"bert.encoder.layer.{layer}.output.dense.weight"
        assert moved[name] == pytest.approx(1e-3 * 0.5 ** (layers - layer), rel=0.02)
    assert moved["bert.embeddings.LayerNorm.weight"] == pytest.approx(1e-3 * 0.5 ** (layers + 1), rel=0.02)


def test_frozen_layers_and_what_is_before_them_stay_what_they_were(checkpoints, tmp_path):
    trained, outcome = fitted(checkpoints, tmp_path / "frozen", how="full", frozen_layers=0.5)
    whole, all_trained = fitted(checkpoints, tmp_path / "whole", how="full")
    assert {n for n in whole if n not in trained} == {
        n for n in whole if n.startswith(("bert.embeddings", "bert.encoder.layer.0."))
    }
    assert 0 < outcome.num_trainable < all_trained.num_trainable == all_trained.num_params
    adapter, _ = fitted(checkpoints, tmp_path / "adapter", frozen_layers=0.5)
    moved = {name for name, tensor in adapter.items() if "lora_B" in name and np.abs(tensor).max() > 0}
    assert moved and all("layer.1." in name for name in moved)


def test_label_words_keep_their_head_and_embeddings_when_all_weights_are_trained(tmp_path):
    from test_label_words import PROMPTS
    from test_label_words import fit_once as fit_words
    from test_label_words import spec_for as words_spec

    (tmp_path / "llama").mkdir()
    save_checkpoint(tmp_path / "llama", "llama", decoder=True, auto="AutoModelForCausalLM")
    spec = words_spec(tmp_path / "llama", "llama", PROMPTS["causal"], "full")
    outcome = fit_words(spec, tmp_path / "fit")
    from safetensors.numpy import load_file

    names = set(load_file(tmp_path / "fit" / "weights.safetensors"))
    assert names and not any("embed_tokens" in name or "lm_head" in name for name in names)
    assert outcome.num_trainable < outcome.num_params
