"""Language models that answer with label words: scores beside a plain loop, padding, and the whole of a fit."""

import json

import numpy as np
import pytest
from tiny_models import VOCABULARY, reload_in_a_new_process, rows, save_checkpoint, save_tokenizer, selected_cases

from moodbench.config import load_catalogue
from moodbench.config.schema import ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.metrics import score_all
from moodbench.models.locate import locate
from moodbench.models.predictor import load_predictor, predict_texts
from moodbench.models.tokenizer import Tokenizer
from moodbench.models.transformer import save_merged
from moodbench.serving.export import label_word_snippet
from moodbench.spec import FitSpec, Prompt, ResolvedDataset, ResolvedModel, SeedSpec
from moodbench.training.checkpoints import CheckpointArea
from moodbench.training.fitting import fit

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes"),
]
CATALOGUE = load_catalogue()
TRAIN, VALIDATION, TEST = rows(96, 1), rows(24, 2), rows(16, 3)
AUTO = {"causal": "AutoModelForCausalLM", "masked": "AutoModelForMaskedLM", "seq2seq": "AutoModelForSeq2SeqLM"}
CAUSAL = ("llama", "gpt2", "gpt_neox", "gemma2", "opt", "phi3")
MASKED = ("bert", "roberta", "distilbert", "deberta-v2", "albert", "modernbert")
T5 = {
    "vocab_size": len(VOCABULARY) + 6, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 3,
}  # fmt: skip
PROMPTS = {
    "causal": Prompt(kind="causal", template="w1 {text} w2", label_words=(" bad", " good")),
    "masked": Prompt(kind="masked", template="w1 {text} w2 {mask}", label_words=(" bad", " good")),
    "seq2seq": Prompt(kind="seq2seq", template="w1 {text} w2", label_words=(" bad", " good")),
}
CASES = [
    *((family, "causal", "none") for family in CAUSAL), *((family, "masked", "none") for family in MASKED),
    ("t5", "seq2seq", "none"), ("llama", "causal", "nf4"),
    ("llama", "causal", "full"), ("gpt2", "causal", "full"), ("bert", "masked", "full"), ("t5", "seq2seq", "full"),
]  # fmt: skip
STRUCTURES = {
    ("llama", "causal", "none"), ("bert", "masked", "none"), ("t5", "seq2seq", "none"),
    ("llama", "causal", "nf4"), ("llama", "causal", "full"),
}  # fmt: skip
"""Cases for every run of the tests."""


def marked(cases):
    """Return the cases as parameters; those that only repeat a structure are slow."""
    return [pytest.param(c, id=" ".join(c), marks=[] if c in STRUCTURES else pytest.mark.slow) for c in cases]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """(family, kind) -> the folder of a tiny language model with its head."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("language-models")
    made = {}
    for family, kind, _ in CASES:
        folder = root / f"{family}-{kind}"
        if (family, kind) not in made:
            folder.mkdir()
            if family == "t5":
                save_t5(folder)
            else:
                save_checkpoint(folder, family, decoder=kind == "causal", auto=AUTO[kind])
            made[family, kind] = folder
    yield made
    torch.set_num_threads(threads)


def save_t5(folder):
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(1)
    T5ForConditionalGeneration(T5Config(**T5)).save_pretrained(folder)
    save_tokenizer(folder, decoder=False)


def spec_for(folder, family, prompt, quantization="none", method="lora", **changes):
    located = locate(family, ModelSource(path=str(folder)))
    defaults = CATALOGUE.training
    full = quantization == "full"
    trained = {
        "lora": None if full else defaults.lora.model_copy(update={"lora_dropout": 0.0}),
        "target_modules": () if full else ("q", "v", "wi", "wo") if family == "t5" else CATALOGUE.families[family].targets("all-linear"),
        "train": defaults.train.model_copy(
            update={"epochs": 5, "learning_rate": 2e-3 if full else 1e-2, "effective_batch_size": 16, "evaluations_per_epoch": 1,
                    "precision": "fp32", "base_dropout": 0.0}
        ),
    }  # fmt: skip
    return FitSpec(
        model=ResolvedModel(
            name=family, method="full" if full else method, family=family, source=ModelSource(path=str(folder)), revision=located.revision,
            weights_sha256=located.weights_sha256, tokenizer_sha256=located.tokenizer_sha256,
            config_sha256=located.config_sha256,
        ),
        dataset=ResolvedDataset(
            name="toy", embedded="toy", revision="0", labels=("negative", "positive"), neutral_band=0,
            train_fingerprint="0", validation_fingerprint="0", test_fingerprint="0",
        ),
        text=defaults.text.model_copy(update={"max_length": 32}), prompt=prompt, quantization="none" if full else quantization,
        seeds=SeedSpec(init=0, data_order=0, subsample=0), **(trained if method == "lora" else {}), **changes,
    )  # fmt: skip


def fit_once(spec, artifact):
    artifact.mkdir()
    area = CheckpointArea(artifact.parent / f"{artifact.name}-checkpoints", lambda: 0)
    area.folder.mkdir()
    return fit(spec, TRAIN, VALIDATION, artifact, "cpu", lambda _: None, area)


WORDS_OF_SEVERAL_TOKENS = {
    "one token each": (" bad", " good"),
    "two tokens and one": (" bad w3", " good"),
    "sharing all but the last": (" w4 w3 bad", " w4 w3 good"),
    "three words, two of them begin alike": (" w3 bad w5", " w3 good", " w6"),
}


@pytest.mark.parametrize("words", WORDS_OF_SEVERAL_TOKENS.values(), ids=WORDS_OF_SEVERAL_TOKENS)
@pytest.mark.parametrize("family", CAUSAL)
def test_scores_equal_a_plain_loop_over_texts_and_words_with_padding_on_either_side(checkpoints, family, words):
    import torch
    from transformers import AutoModelForCausalLM

    from moodbench.models.label_words import LabelWordClassifier

    folder = checkpoints[family, "causal"]
    prompt = PROMPTS["causal"].model_copy(update={"label_words": words})
    tokenizer = Tokenizer.load(folder, CATALOGUE.training.text, prompt=prompt, name=family)
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    texts = ["w5", "w6 w7 w8", "w9 w10 w11 w12 w13 w14"]
    expected = []
    for text in texts:
        before = tokenizer.hf(f"w1 {text} w2")["input_ids"]
        scores = []
        for word in words:
            tokens = tokenizer.hf(word)["input_ids"]
            with torch.inference_mode():
                logs = whole(torch.tensor([before + tokens])).logits[0].log_softmax(-1)
            # The shared beginning is the template's end, and no part of a word's mean.
            own = range(len(tokenizer.label_tokens.shared), len(tokens))
            scores.append(float(np.mean([logs[len(before) - 1 + i, tokens[i]] for i in own])))
        expected.append(scores)
    expected = torch.tensor(expected).log_softmax(-1).numpy()

    classifier = LabelWordClassifier(
        AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), tokenizer.label_tokens, "causal"
    ).eval()
    ids = tokenizer.encode(texts).inputs
    right = tokenizer.pad(ids)
    left = {
        name: torch.stack([torch.cat([row[len(x):], row[: len(x)]]) for row, x in zip(tensor, ids, strict=True)])
        for name, tensor in right.items()
    }  # fmt: skip
    assert not bool(left["attention_mask"][0, 0]), "padding on the left, or the test shows nothing"
    for padded in (right, left):
        with torch.inference_mode():
            found = classifier(**padded).logits.log_softmax(-1).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("family", MASKED)
def test_a_masked_model_scores_the_words_in_place_of_the_mask_of_the_template(checkpoints, family):
    import torch
    from transformers import AutoModelForMaskedLM

    from moodbench.models.label_words import LabelWordClassifier

    folder = checkpoints[family, "masked"]
    for template, place in (("w1 {text} w2 {mask} w3", -1), ("w1 {mask} {text} w2", 0)):
        prompt = PROMPTS["masked"].model_copy(update={"template": template})
        tokenizer = Tokenizer.load(folder, CATALOGUE.training.text, prompt=prompt, name=family)
        whole = AutoModelForMaskedLM.from_pretrained(folder, dtype="float32").eval()
        ids = tokenizer.encode(["w5 w6", "w7 [MASK] w8 w9"]).inputs
        rows_of_words = [word[0] for word in tokenizer.label_tokens.words]
        expected = []
        for row in ids:
            with torch.inference_mode():
                logits = whole(torch.tensor([row])).logits[0]
            masks = [i for i, token in enumerate(row) if token == tokenizer.hf.mask_token_id]
            expected.append(logits[masks[place], rows_of_words].log_softmax(-1).numpy())
        model = AutoModelForMaskedLM.from_pretrained(folder, dtype="float32")
        classifier = LabelWordClassifier(
            model, tokenizer.label_tokens, "masked", mask_id=tokenizer.hf.mask_token_id, mask_is_last=place == -1
        ).eval()
        with torch.inference_mode():
            found = classifier(**tokenizer.pad(ids)).logits.log_softmax(-1).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def fits(request, checkpoints, tmp_path_factory):
    """(family, kind, quantisation) -> spec, artifact, outcome and the logits that another process finds."""
    root = tmp_path_factory.mktemp("fits")
    made = {}
    for family, kind, quantization in sorted(selected_cases(request)):
        spec = spec_for(checkpoints[family, kind], family, PROMPTS[kind], quantization)
        artifact = root / f"{family}-{kind}-{quantization}"
        made[family, kind, quantization] = (spec, artifact, fit_once(spec, artifact))
    reload_in_a_new_process(made.values(), TEST["text"].tolist())
    return made


@pytest.mark.parametrize("case", marked(CASES))
def test_a_language_model_learns_its_label_words_is_saved_loaded_merged_and_batched(fits, case):
    spec, artifact, outcome = fits[case]
    losses = [point.loss for point in outcome.curve if point.loss is not None]
    assert np.mean(losses[-6:]) < 0.9 * np.mean(losses[:6]), f"training did not lower the loss: {losses}"
    trained = load_predictor(spec, artifact, "as_trained", "cpu")
    texts = TEST["text"].tolist()
    logits, encoded = predict_texts(trained, texts, 8)
    np.testing.assert_array_equal(np.load(artifact / "logits.npy"), logits)

    of_validation, _ = predict_texts(trained, VALIDATION["text"].tolist(), 32)
    nll = score_all(of_validation, VALIDATION["label"].to_numpy())["nll"]
    assert nll == pytest.approx(outcome.validation["nll"], abs=1e-5)

    alone = np.concatenate([trained.logits(encoded.take(np.array([row]))) for row in range(len(texts))])
    np.testing.assert_allclose(alone, logits, atol=2e-5, rtol=1e-5)
    merged, _ = predict_texts(load_predictor(spec, artifact, "merged", "cpu"), texts, 8)
    np.testing.assert_allclose(merged, logits, atol=1e-5, rtol=1e-5)
    assert logits.std() > 0.01


@pytest.mark.parametrize("case", marked(c for c in CASES if c[2] == "full"))
def test_all_weights_but_the_embeddings_and_the_head_are_trained(fits, case):
    from safetensors.numpy import load_file

    _, artifact, outcome = fits[case]
    names = set(load_file(artifact / "weights.safetensors"))
    embedded = ("embed_tokens", "word_embeddings", ".wte.", "shared", "lm_head", "decoder.weight")
    assert names and not [name for name in names if any(part in name for part in embedded)]
    assert outcome.num_trainable < outcome.num_params


@pytest.mark.parametrize("case", marked(c for c in CASES if c[2] != "nf4"))
def test_an_exported_model_answers_alike_by_the_snippet_of_its_card(fits, tmp_path, case, capsys):
    spec, artifact, _ = fits[case]
    save_merged(spec, artifact, tmp_path)
    snippet = label_word_snippet(spec.prompt, str(tmp_path))
    texts = TEST["text"].tolist()[:4]
    for text in texts:
        exec(snippet.replace("The plot is thin, the acting superb.", text), {})
    told = capsys.readouterr().out.split()
    logits, _ = predict_texts(load_predictor(spec, artifact, "as_trained", "cpu"), texts, 8)
    assert told == [spec.dataset.labels[i] for i in logits.argmax(1)]
    assert not (tmp_path / "README.md").exists()


def test_a_prompted_model_is_asked_without_training_and_shows_examples_of_each_class(checkpoints, tmp_path):
    folder = checkpoints["llama", "causal"]
    prompt = PROMPTS["causal"]
    plain = spec_for(folder, "llama", prompt, method="prompted")
    outcome = fit_once(plain, tmp_path / "plain")
    assert (outcome.num_trainable, outcome.chosen) == (0, {"num_examples": 0})
    assert outcome.num_params == fit_parameters(folder)
    predictor = load_predictor(plain, tmp_path / "plain", "native", "cpu")
    assert predictor.encode(["w5"]).num_tokens.tolist() == [3]

    few = spec_for(folder, "llama", prompt.model_copy(update={"num_examples": 2}), method="prompted").model_copy(
        update={"text": CATALOGUE.training.text}
    )
    fit_once(few, tmp_path / "few")
    template = json.loads((tmp_path / "few" / "template.json").read_text())
    shown = [part for part in template["before"].split("\n\n") if part.strip()][:2]
    answers = [part.split()[-1] for part in shown]
    assert sorted(answers) == ["bad", "good"]
    for part, answer in zip(shown, answers, strict=True):
        assert answer in part.removesuffix(answer).split(), "the label of a text is the word in it"
    longer = load_predictor(few, tmp_path / "few", "native", "cpu")
    assert longer.encode(["w5"]).num_tokens[0] > 3


def fit_parameters(folder):
    from safetensors.numpy import load_file

    return sum(tensor.size for tensor in load_file(folder / "model.safetensors").values())


def test_a_checkpoint_without_its_head_is_refused(tmp_path):
    save_checkpoint(tmp_path, "gpt_neox", decoder=True)
    spec = spec_for(tmp_path, "gpt_neox", PROMPTS["causal"])
    with pytest.raises(PrerequisiteError, match=r"has no weights of its language-model head \(lm_head|embed_out\)"):
        fit_once(spec, tmp_path / "artifact")


def test_embeddings_and_heads_are_no_targets_as_they_may_be_tied(checkpoints, tmp_path):
    spec = spec_for(checkpoints["llama", "causal"], "llama", PROMPTS["causal"])
    with pytest.raises(PrerequisiteError, match=r"LoRA target 'lm_head' is outside the layers \(lm.lm_head\)"):
        fit_once(spec.model_copy(update={"target_modules": ("q_proj", "lm_head")}), tmp_path / "artifact")


def test_only_the_rows_of_the_label_words_are_kept_of_an_untied_head(checkpoints, tmp_path):
    spec = spec_for(checkpoints["gpt_neox", "causal"], "gpt_neox", PROMPTS["causal"], method="prompted")
    fit_once(spec, tmp_path / "artifact")
    predictor = load_predictor(spec, tmp_path / "artifact", "native", "cpu")
    vocabulary, width = len(VOCABULARY) + 6, 32
    saved = 4 * (vocabulary - len(spec.prompt.label_words)) * width
    parameters = sum(p.numel() for p in predictor._model.parameters())
    assert 4 * parameters == 4 * fit_parameters(checkpoints["gpt_neox", "causal"]) - saved
