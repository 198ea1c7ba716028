"""Models that bring code of their own: refused until it is trusted, then fitted without a question on the terminal."""

import json
import sys

import numpy as np
import pytest
from test_families import TEST, VALIDATION, fit_once, spec_for
from tiny_models import save_checkpoint

from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.errors import PrerequisiteError
from moodbench.metrics import score_all
from moodbench.models.adapter import LoRAConfigManager
from moodbench.models.base import load_encoder
from moodbench.models.locate import locate
from moodbench.models.predictor import load_predictor, predict_texts

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
MODEL = """
from transformers import BertConfig, BertForSequenceClassification, BertModel


class NovelConfig(BertConfig):
    model_type = "novel"


class NovelModel(BertModel):
    config_class = NovelConfig


class NovelForSequenceClassification(BertForSequenceClassification):
    config_class = NovelConfig
"""
TOKENIZER = """
from transformers import PreTrainedTokenizerFast


class NovelTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint whose model type, model classes and tokenizer class exist only in its own files."""
    made = tmp_path_factory.mktemp("checkpoint") / "novel"
    made.mkdir()
    save_checkpoint(made, "bert", decoder=False)
    (made / "novel_model.py").write_text(MODEL)
    (made / "novel_tokenizer.py").write_text(TOKENIZER)
    classes = {"AutoConfig": "NovelConfig", "AutoModel": "NovelModel",
               "AutoModelForSequenceClassification": "NovelForSequenceClassification"}  # fmt: skip
    own = {"model_type": "novel", "auto_map": {auto: f"novel_model.{name}" for auto, name in classes.items()}}
    change(made / "config.json", own)
    tokenizer = {"AutoTokenizer": [None, "novel_tokenizer.NovelTokenizer"]}
    change(made / "tokenizer_config.json", {"tokenizer_class": "NovelTokenizer", "auto_map": tokenizer})
    return made


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads on so little work cost more than they bring
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch):
    """Any question on the terminal ends the test."""
    monkeypatch.setattr(sys, "stdin", None)


def change(path, values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def trusting():
    return load_catalogue(trust_remote_code=True)


def test_a_folder_with_code_of_its_own_is_refused_with_the_flag_that_allows_it(folder):
    told = (
        r"config.json requires custom code \(AutoConfig, AutoModel, .*read it, then allow it with --trust-remote-code"
    )
    with pytest.raises(PrerequisiteError, match=told):
        LoRAConfigManager.prepare_model(str(folder), 2, "cpu")


def test_a_tokenizer_with_code_of_its_own_is_refused_even_where_the_model_has_none(tmp_path):
    save_checkpoint(tmp_path, "bert", decoder=False)
    change(tmp_path / "config.json", {"model_type": "unheard-of"})
    change(
        tmp_path / "tokenizer_config.json", {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    )
    with pytest.raises(PrerequisiteError, match=r"tokenizer_config.json requires custom code \(AutoTokenizer\)"):
        locate("mine", load_catalogue().model(str(tmp_path)).source)


def test_trusted_code_is_prepared_for_training_with_lora_in_its_linear_layers(folder):
    made = LoRAConfigManager.prepare_model(str(folder), 3, "cpu", catalogue=trusting())
    base = made.model.get_base_model()
    assert type(base).__name__ == "NovelForSequenceClassification"
    assert type(made.tokenizer.hf).__name__ == "NovelTokenizer"
    adapted = {name for name, _ in base.named_parameters() if name.endswith("lora_A.default.weight")}
    attention = {name for name in adapted if "attention" in name}
    assert (len(attention), len(adapted)) == (8, 12), (
        "four projections and two feed-forward layers in each of two layers"
    )


def trusted_spec(folder, family="bert"):
    spec = spec_for(folder, family, "none", trust_remote_code=True)
    return spec.model_copy(update={"model": spec.model.model_copy(update={"family": "novel"})})


def test_a_whole_fit_of_trusted_code_learns_and_answers_as_it_was_validated(folder, tmp_path):
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    spec = trusted_spec(folder)
    outcome = fit_once(spec, artifact)
    losses = [point.loss for point in outcome.curve if point.loss is not None]
    assert np.mean(losses[-6:]) < 0.9 * np.mean(losses[:6])
    predictor = load_predictor(spec, artifact, "merged", "cpu")
    logits, _ = predict_texts(predictor, VALIDATION["text"].tolist(), 32)
    nll = score_all(logits, VALIDATION["label"].to_numpy())["nll"]
    assert nll == pytest.approx(outcome.validation["nll"], abs=1e-5)
    assert np.isfinite(predict_texts(predictor, TEST["text"].tolist(), 8)[0]).all()


def test_the_encoder_of_a_linear_probe_is_loaded_from_trusted_code(folder):
    assert type(load_encoder(trusted_spec(folder))).__name__ == "NovelModel"


def test_changed_code_of_a_trusted_folder_makes_another_model(folder):
    source = trusting().model(str(folder)).source
    before = locate("mine", source).config_sha256
    path = folder / "novel_model.py"
    path.write_text(MODEL + "\n# changed\n")
    try:
        assert locate("mine", source).config_sha256 != before
    finally:
        path.write_text(MODEL)


def test_the_flag_reaches_a_plan(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["plan", "--models", str(folder), "--datasets", "icwsm-tweets"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and "--trust-remote-code" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([*words, "--trust-remote-code"])
    assert ended.value.code == 0 and "2 trials" in capsys.readouterr().out
