"""Every family through the whole of a fit: prepare, learn, save, load in another process, merge, and padded batches."""

import json

import numpy as np
import pytest
from tiny_models import CONFIGURATIONS, reload_in_a_new_process, rows, save_checkpoint, selected_cases

from moodbench.config import load_catalogue
from moodbench.config.schema import ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.metrics import score_all
from moodbench.models.base import load_base
from moodbench.models.families import family_of_modules
from moodbench.models.locate import locate
from moodbench.models.predictor import load_predictor, predict_texts
from moodbench.spec import FitSpec, ResolvedDataset, ResolvedModel, SeedSpec
from moodbench.training import batches, fine_tuning
from moodbench.training.checkpoints import CheckpointArea
from moodbench.training.fitting import fit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes"),
]
CATALOGUE = load_catalogue()
FAMILIES = CATALOGUE.families
TRAIN, VALIDATION, TEST = rows(96, 1), rows(24, 2), rows(16, 3)
QUANTISED = ("bert", "llama", "gpt2")
CASES = [
    *((family, "none") for family in CONFIGURATIONS),
    *((family, "nf4") for family in QUANTISED),
    *((family, "full") for family in ("bert", "modernbert", "gpt2")),
]
"""Family, and what is trained: an adapter on weights as they are or quantised, or all weights."""
STRUCTURES = {("bert", "none"), ("gpt2", "none"), ("llama", "none"), ("llama", "nf4"), ("modernbert", "full")}
"""Cases for every run of the tests: post-norm encoder, transposed projections, decoder, 4 bits, all weights."""


def marked(cases):
    """Return the cases as parameters; those that only repeat a structure are slow."""
    return [pytest.param(c, id="-".join(c), marks=[] if c in STRUCTURES else pytest.mark.slow) for c in cases]


def spec_for(folder, family, quantization, *, trust_remote_code=False):
    full = quantization == "full"
    located = locate(family, ModelSource(path=str(folder), trust_remote_code=trust_remote_code))
    defaults = CATALOGUE.training
    changes = {
        "epochs": 5,
        "learning_rate": 1e-3 if full else 1e-2,
        "effective_batch_size": 16,
        "evaluations_per_epoch": 1,
    }
    return FitSpec(
        model=ResolvedModel(
            name=family, method="full" if full else "lora", family=family, revision=located.revision,
            source=ModelSource(path=str(folder), trust_remote_code=trust_remote_code),
            weights_sha256=located.weights_sha256, tokenizer_sha256=located.tokenizer_sha256,
            config_sha256=located.config_sha256,
        ),
        dataset=ResolvedDataset(
            name="toy", embedded="toy", revision="0", labels=("negative", "positive"), neutral_band=0,
            train_fingerprint="0", validation_fingerprint="0", test_fingerprint="0",
        ),
        text=defaults.text.model_copy(update={"max_length": 32}),
        lora=None if full else defaults.lora.model_copy(update={"lora_dropout": 0.0}),
        target_modules=() if full else FAMILIES[family].targets("all-linear"),
        quantization="none" if full else quantization,
        train=defaults.train.model_copy(update={**changes, "precision": "fp32", "base_dropout": 0.0}),
        seeds=SeedSpec(init=0, data_order=0, subsample=0),
    )  # fmt: skip


def fit_once(spec, artifact, device="cpu"):
    area = CheckpointArea(artifact.parent / f"{artifact.name}-checkpoints", lambda: 0)
    area.folder.mkdir()
    return fit(spec, TRAIN, VALIDATION, artifact, device, lambda _: None, area)


@pytest.fixture(scope="module")
def fits(request, tmp_path_factory):
    """(family, quantisation) -> spec, artifact, outcome and the logits that another process finds."""
    import torch

    from moodbench.models.device import prepare_torch

    threads = torch.get_num_threads()
    prepare_torch(1)  # two threads on so little work cost more than they bring
    root = tmp_path_factory.mktemp("families")
    made = {}
    for family in CONFIGURATIONS:
        (root / family).mkdir()
        save_checkpoint(root / family, family, decoder=FAMILIES[family].kind == "decoder")
    chosen = selected_cases(request)
    chosen |= {(family, "none") for family, quantization in chosen if quantization == "nf4"}
    for family, quantization in sorted(chosen):
        artifact = root / f"{family}-{quantization}"
        artifact.mkdir()
        spec = spec_for(root / family, family, quantization)
        made[family, quantization] = (spec, artifact, fit_once(spec, artifact))
    reload_in_a_new_process(made.values(), TEST["text"].tolist())
    yield made
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", marked(CASES))
def test_a_family_learns_is_saved_loaded_merged_and_padded(fits, case):
    spec, artifact, outcome = fits[case]
    losses = [point.loss for point in outcome.curve if point.loss is not None]
    assert np.mean(losses[-6:]) < 0.9 * np.mean(losses[:6]), f"training did not lower the loss: {losses}"

    trained = load_predictor(spec, artifact, "as_trained", "cpu")
    texts = TEST["text"].tolist()
    logits, encoded = predict_texts(trained, texts, 8)
    np.testing.assert_array_equal(np.load(artifact / "logits.npy"), logits)

    # What was saved is what was validated while training.
    of_validation, _ = predict_texts(trained, VALIDATION["text"].tolist(), 32)
    nll = score_all(of_validation, VALIDATION["label"].to_numpy())["nll"]
    assert nll == pytest.approx(outcome.validation["nll"], abs=1e-5)

    alone = np.concatenate([trained.logits(encoded.take(np.array([row]))) for row in range(len(texts))])
    np.testing.assert_allclose(alone, logits, atol=2e-5, rtol=1e-5)
    assert len(set(encoded.num_tokens.tolist())) > 3, "texts of different lengths, or nothing is padded"

    merged, _ = predict_texts(load_predictor(spec, artifact, "merged", "cpu"), texts, 8)
    np.testing.assert_allclose(merged, logits, atol=1e-5, rtol=1e-5)
    assert logits.std() > 0.01
    assert (outcome.num_trainable == outcome.num_params) == (case[1] == "full")


@pytest.mark.parametrize("family", CONFIGURATIONS)
def test_attention_is_torchs_fused_one_where_the_family_has_it_and_the_plain_formula_elsewhere(tmp_path, family):
    save_checkpoint(tmp_path, family, decoder=FAMILIES[family].kind == "decoder")
    loaded = load_base(tmp_path, ["a", "b"], 0).model
    assert loaded.config._attn_implementation == ("sdpa" if FAMILIES[family].sdpa else "eager")


@pytest.mark.parametrize("case", marked((family, "nf4") for family in QUANTISED))
def test_quantised_weights_are_small_and_counted_as_what_they_stand_for(fits, case):
    plain, quantised = fits[case[0], "none"], fits[case]
    assert quantised[2].num_params == plain[2].num_params
    assert quantised[2].num_trainable == plain[2].num_trainable
    small, large = (load_predictor(spec, artifact, "as_trained", "cpu") for spec, artifact, _ in (quantised, plain))
    assert small.weights_bytes < 0.8 * large.weights_bytes


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "gpt2", "llama", "modernbert", "phi3", "albert", "opt"])
def test_an_unknown_family_is_read_off_its_modules(tmp_path, family):
    save_checkpoint(tmp_path, family, decoder=FAMILIES[family].kind == "decoder")
    found, known = family_of_modules(family, tmp_path, trust_remote_code=False), FAMILIES[family]
    for target in known.attention:
        assert any(name == target or name.endswith("." + target) for name in found.attention), (target, found)
    assert len(found.attention) == len(known.attention)
    assert (found.kind, found.sdpa) == (known.kind, known.sdpa)
    assert found.gradient_checkpointing == known.gradient_checkpointing


def test_a_model_without_linear_attention_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "xlnet", "vocab_size": 30, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64})
    )
    with pytest.raises(PrerequisiteError, match="no linear layers inside attention modules"):
        family_of_modules("mine", tmp_path, trust_remote_code=False)


@pytest.mark.parametrize(
    ("family", "quantization"), [("bert", "none"), ("llama", "none"), ("gpt2", "none"), ("modernbert", "full")]
)
def test_a_batch_in_parts_by_length_is_learned_as_a_whole_one(tmp_path, monkeypatch, family, quantization):
    (tmp_path / "base").mkdir()
    save_checkpoint(tmp_path / "base", family, decoder=FAMILIES[family].kind == "decoder")
    spec, num_parts, found = spec_for(tmp_path / "base", family, quantization), [], {}
    parts_by_length = fine_tuning.parts_by_length

    def counted(batch):
        parts = parts_by_length(batch)
        num_parts.append(len(parts))
        return parts

    monkeypatch.setattr(fine_tuning, "parts_by_length", counted)
    for most in (1, 3):
        monkeypatch.setattr(batches, "MAX_PARTS", most)
        monkeypatch.setattr(batches, "MIN_TOKENS_PER_PART", 1)
        num_parts.clear()
        (tmp_path / str(most)).mkdir()
        outcome = fit_once(spec, tmp_path / str(most))
        logits, _ = predict_texts(
            load_predictor(spec, tmp_path / str(most), "as_trained", "cpu"), TEST["text"].tolist(), 8
        )
        found[most] = (set(num_parts), [point.loss for point in outcome.curve if point.loss is not None], logits)
    assert (found[1][0], found[3][0]) == ({1}, {3})
    np.testing.assert_allclose(found[3][1], found[1][1], rtol=1e-3)
    np.testing.assert_allclose(found[3][2], found[1][2], atol=2e-3)
