"""Every optimiser of the CPU in a whole fit: the one that was asked for takes the steps, and the loss falls."""

import numpy as np
import pytest
from test_families import TEST, fit_once, spec_for
from tiny_models import save_checkpoint

from moodbench.models.features import FEATURES, check_optimizer
from moodbench.models.predictor import load_predictor, predict_texts

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes"),
]
LEARNING_RATES = {"adamw": 1e-2, "adamw_8bit": 1e-2, "adafactor": 1e-2, "sgd": 0.3}
CLASSES = {"adamw": ("torch", "AdamW"), "adamw_8bit": ("bitsandbytes", "AdamW"), "adafactor": ("transformers", "Adafactor"),
           "sgd": ("torch", "SGD")}  # fmt: skip


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """Optimiser -> the outcome, the logits and the optimisers that took steps."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    root = tmp_path_factory.mktemp("optimizers")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads on so little work cost more than they bring
    (root / "bert").mkdir()
    # Wide enough for the matrices of the adapter to have the 4,096 values from which bitsandbytes keeps 8 bits of state.
    save_checkpoint(root / "bert", "bert", decoder=False, hidden_size=512, intermediate_size=64, initializer_range=0.05)
    stepped, made = [], {}
    handle = register_optimizer_step_post_hook(lambda each, *_: stepped.append(each))
    for name, rate in LEARNING_RATES.items():
        (root / name).mkdir()
        spec = spec_for(root / "bert", "bert", "none")
        train = spec.train.model_copy(
            update={"optimizer": name, "learning_rate": rate, "epochs": 6, "select_by": "nll"}
        )
        spec = spec.model_copy(update={"train": train, "target_modules": ("query", "value")})
        outcome = fit_once(spec, root / name)
        logits, _ = predict_texts(load_predictor(spec, root / name, "merged", "cpu"), TEST["text"].tolist(), 8)
        made[name] = (outcome, logits, list(stepped))
        stepped.clear()
    handle.remove()
    torch.set_num_threads(threads)
    return made


def test_the_table_holds_every_optimiser_that_the_cpu_has():
    assert {name for name in LEARNING_RATES if check_optimizer(name, "cpu", "m")} == set(LEARNING_RATES)
    assert not FEATURES["paged optimizers"]["cpu"].works


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_an_optimiser_lowers_the_loss_and_is_the_one_that_was_asked_for(fits, name):
    outcome, _, stepped = fits[name]
    losses = [point.loss for point in outcome.curve if point.loss is not None]
    assert np.mean(losses[-6:]) < 0.9 * np.mean(losses[:6]), losses
    (kind,) = {(type(each).__module__.partition(".")[0], type(each).__name__) for each in stepped}
    assert kind == CLASSES[name]


def test_the_8_bit_optimiser_keeps_its_state_in_8_bits(fits):
    import torch

    optimizer = fits["adamw_8bit"][2][-1]
    large = [s["state1"] for p, s in optimizer.state.items() if p.numel() >= 4096]
    assert large and {state.dtype for state in large} == {torch.uint8}


def test_each_optimiser_ends_elsewhere(fits):
    names = list(LEARNING_RATES)
    for a in range(len(names)):
        for b in range(a):
            assert np.abs(fits[names[a]][1] - fits[names[b]][1]).max() > 1e-4, (names[a], names[b])
