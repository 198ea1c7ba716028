"""Adapters trained in step end where each ends alone: tiny random encoders with dropout, early stopping and all."""

import numpy as np
import pytest
from test_families import FAMILIES, TEST, spec_for
from tiny_models import rows, save_checkpoint

from moodbench.config.schema import LoraDefaults
from moodbench.models.predictor import load_predictor, predict_texts
from moodbench.training import multi_adapter
from moodbench.training.checkpoints import CheckpointArea
from moodbench.training.fitting import fit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
TOLERANCE = 1e-4
"""Of logits: what sums in another order may change over all steps."""
VARIED = (
    ({"r": 2, "lora_alpha": 4.0}, {"learning_rate": 4e-3}),
    ({"r": 8, "lora_dropout": 0.2}, {"learning_rate": 1e-2, "weight_decay": 0.1}),
    ({"r": 4, "use_rslora": True, "loraplus_lr_ratio": 4.0}, {"learning_rate": 4e-3, "patience": 2}),
    ({"r": 4, "use_dora": True, "lora_dropout": 0.1}, {"learning_rate": 8e-3, "lr_scheduler": "cosine"}),
)


def specs_of(folder, family):
    base = spec_for(folder, family, "none")
    return [
        base.model_copy(
            update={
                "lora": LoraDefaults.model_validate(base.lora.model_dump() | lora),
                "train": base.train.model_copy(
                    update={
                        "epochs": 3, "effective_batch_size": 16, "base_dropout": 0.1, "evaluations_per_epoch": 2,
                        "select_by": "nll", **train,
                    }
                ),
            }
        )
        for lora, train in VARIED
    ]  # fmt: skip


def fit_into(spec, folder):
    artifact = folder / "artifact"
    artifact.mkdir(parents=True)
    area = CheckpointArea(folder / "checkpoints", lambda: 0)
    area.folder.mkdir()
    # Validated on texts seen in training: a score that only worsens would choose the untrained adapter every time.
    outcome = fit(spec, rows(48, 1), rows(48, 1), artifact, "cpu", lambda _: None, area)
    return outcome, predict_texts(load_predictor(spec, artifact, "as_trained", "cpu"), TEST["text"].tolist(), 8)[0]


@pytest.mark.parametrize("family", multi_adapter.FAMILIES)
def test_each_adapter_ends_as_it_does_alone(family, tmp_path):
    import torch

    from moodbench.models.device import prepare_torch

    threads = torch.get_num_threads()
    prepare_torch(1)
    (tmp_path / "model").mkdir()
    save_checkpoint(tmp_path / "model", family, decoder=FAMILIES[family].kind == "decoder")
    specs = specs_of(tmp_path / "model", family)
    alone = [fit_into(spec, tmp_path / f"alone-{n}") for n, spec in enumerate(specs)]
    jobs = [lambda n=n, spec=spec: fit_into(spec, tmp_path / f"joint-{n}") for n, spec in enumerate(specs)]
    joint = multi_adapter.JointTraining().run(jobs)
    torch.set_num_threads(threads)
    for (outcome, logits), (joint_outcome, joint_logits) in zip(alone, joint, strict=True):
        np.testing.assert_allclose(joint_logits, logits, atol=TOLERANCE, rtol=0)
        assert joint_outcome.best_step == outcome.best_step
        assert joint_outcome.num_texts_trained == outcome.num_texts_trained
        assert joint_outcome.validation == pytest.approx(outcome.validation, abs=1e-3)
        assert joint_outcome.chosen["trained_together"] >= 2
    spread = max(float(np.abs(a - b).max()) for _, a in alone for _, b in alone)
    assert spread > 100 * TOLERANCE, "the configurations must differ for their agreement to mean anything"
