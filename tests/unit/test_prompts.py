"""Which model answers with label words, after which template, and what is refused."""

import json

import pytest

from moodbench.benchmark.recipe import RequestedModel, has_language_model_head, prompt_of, read_prompt
from moodbench.benchmark.resolve import resolve
from moodbench.config import load_catalogue
from moodbench.config.schema import PromptEntry
from moodbench.errors import PrerequisiteError, SpecError, UnknownNameError
from moodbench.hardware import hardware
from moodbench.models.families import family_of
from moodbench.models.locate import locate
from moodbench.spec import BenchmarkSpec, Prompt, ResolvedModel

CATALOGUE = load_catalogue()
TWO, THREE = ("negative", "positive"), ("negative", "neutral", "positive")
FIVE, STARS = ("very negative", "negative", "neutral", "positive", "very positive"), ("1", "2", "3", "4", "5")


def of(model, labels=TWO, folder=None, **asked):
    entry = CATALOGUE.model(model)
    family = family_of(model, entry, CATALOGUE.families)[1]
    spec = BenchmarkSpec(models=[model], datasets=["x"], **asked)
    requested = RequestedModel(ResolvedModel(name=model, method=entry.method), entry, folder)
    return prompt_of(requested, family, labels, CATALOGUE, spec)


@pytest.mark.parametrize(
    ("model", "labels", "asked", "expected"),
    [
        ("BERT-tiny", TWO, {}, None),
        ("BERT-tiny", TWO, {"head": "classification"}, None),
        ("SmolLM2-135M", TWO, {"head": "classification"}, None),
        ("SmolLM2-135M", TWO, {}, ("causal", "Review: {text}\nSentiment:", (" negative", " positive"))),
        ("SmolLM2-135M", THREE, {}, ("causal", "Review: {text}\nSentiment:", (" negative", " neutral", " positive"))),
        ("Pythia-70m", FIVE, {}, ("causal", "Review: {text}\nSentiment:", (" terrible", " bad", " okay", " good", " great"))),
        ("Pythia-70m", STARS, {}, ("causal", "Review: {text}\nStars (1 to 5):", (" 1", " 2", " 3", " 4", " 5"))),
        ("Pythia-70m", ("1", "5"), {}, ("causal", "Review: {text}\nStars (1 to 5):", (" 1", " 5"))),
        ("Pythia-70m", ("1", "3", "5"), {}, ("causal", "Review: {text}\nStars (1 to 5):", (" 1", " 3", " 5"))),
        ("BERT-base", TWO, {"head": "label-words"}, ("masked", "{text} It was {mask}.", (" terrible", " great"))),
        ("BERT-base", THREE, {"head": "label-words"}, ("masked", "{text} It was {mask}.", (" terrible", " okay", " great"))),
        ("BERT-base", STARS, {"head": "label-words"}, ("masked", "{text} It was {mask}.", (" terrible", " bad", " okay", " good", " great"))),
    ],
)  # fmt: skip
def test_decoders_answer_with_label_words_and_encoders_when_asked(model, labels, asked, expected):
    found = of(model, labels, **asked)
    assert (None if found is None else (found.kind, found.template, found.label_words)) == expected


def test_every_prompt_of_the_catalogue_is_reached_by_some_data_set():
    reached = {
        (found.template, found.label_words)
        for model, asked in (("Pythia-70m", {}), ("BERT-base", {"head": "label-words"}))
        for labels in (TWO, THREE, FIVE, STARS, ("1", "5"), ("1", "3", "5"))
        if (found := of(model, labels, **asked))
    }
    packaged = {
        (entry.template, words)
        for entry in CATALOGUE.prompts.values()
        for words in entry.label_words.values()
        if not entry.chat
    }
    assert reached == packaged


@pytest.mark.parametrize(
    ("architectures", "expected"),
    [
        (["LlamaForCausalLM"], True), (["GPT2LMHeadModel"], True), (["BertForMaskedLM"], True), (["BertForPreTraining"], True),
        (["T5ForConditionalGeneration"], True), (["BertModel"], False), (["BertForSequenceClassification"], False), (None, False),
    ],
)  # fmt: skip
def test_a_language_model_is_known_by_the_class_it_was_saved_as(tmp_path, architectures, expected):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": architectures}))
    assert has_language_model_head(tmp_path) is expected


def test_an_encoder_without_its_head_is_refused_where_label_words_are_asked_for():
    folder = locate("MiniLM-L6", CATALOGUE.model("MiniLM-L6").source).folder
    assert of("MiniLM-L6", folder=folder) is None
    with pytest.raises(
        PrerequisiteError, match=r"model MiniLM-L6: .* was saved without a language-model head, .* --head class"
    ):
        of("MiniLM-L6", folder=folder, head="label-words")


@pytest.mark.parametrize(
    ("asked", "labels", "error", "message"),
    [
        ({"prompt": "reveiw"}, TWO, UnknownNameError, "unknown prompt 'reveiw': did you mean 'review'"),
        ({"prompt": "mask"}, TWO, SpecError, r"model Pythia-70m: prompt mask: template .* has \{mask\}, which only encoders"),
        ({}, ("a", "b", "c", "d"), SpecError, r"has label words for 2 or 3 or 5 classes, the dataset has 4 \(a, b, c, d\)"),
        ({"prompt": "gone.yaml"}, TWO, PrerequisiteError, "--prompt gone.yaml: No such file .*expected a YAML file with template"),
    ],
)  # fmt: skip
def test_a_prompt_that_does_not_suit_is_refused(empty_folder, asked, labels, error, message):
    with pytest.raises(error, match=message):
        of("Pythia-70m", labels, **asked)


def test_an_encoder_needs_a_mask_in_its_template():
    with pytest.raises(
        SpecError, match=r"model BERT-base: prompt review: template .* has no \{mask\}, where it would answer"
    ):
        of("BERT-base", head="label-words", prompt="review")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "template: Review\nlabel_words: [' a', ' b']",
            r"mine.yaml, line 1: template: must contain \{text\} exactly once",
        ),
        ("template: '{text}'\nlabel_words: [' a']", r"label_words.1"),
        (
            "template: '{text}'\nlabel_words: {2: [' a', ' b', ' c']}",
            r"label_words.2: has 3 words; give one for each class",
        ),
        ("template: '{text}'\nlabel_words: [' a', ' a']", r"label_words.2: ' a' is the word of two classes"),
        ("template: '{text}'\nlabel_words: [' a', ' ']", r"label_words.2: ' ' is empty"),
        ("template: '{text} {mask} {mask}'\nlabel_words: [' a', ' b']", r"may contain \{mask\} once"),
        ("templat: '{text}'\nlabel_words: [' a', ' b']", "templat: unknown key; did you mean 'template'"),
    ],
)
def test_a_file_that_is_no_prompt_is_refused_with_place_and_reason(empty_folder, text, message):
    (empty_folder / "mine.yaml").write_text(text)
    with pytest.raises(SpecError, match=message):
        read_prompt("mine.yaml", CATALOGUE)


def test_a_file_with_a_list_of_words_is_a_prompt_for_as_many_classes(empty_folder):
    (empty_folder / "mine.yaml").write_text("template: 'Ticket: {text} Mood:'\nlabel_words: [' angry', ' happy']")
    assert of("Pythia-70m", ("angry", "happy"), prompt="mine.yaml") == Prompt(
        kind="causal", template="Ticket: {text} Mood:", label_words=(" angry", " happy")
    )


def test_template_and_words_are_part_of_a_fits_identity():
    spec = BenchmarkSpec(models=["MiniLM-L6"], datasets=["icwsm-movie"])
    (trial,) = resolve(spec, CATALOGUE, hardware(), with_baseline=False)
    plain = trial.fit
    ids = {plain.config_id}
    for template, words in (("{text} :", (" a", " b")), ("{text}:", (" a", " b")), ("{text} :", (" a", " c"))):
        prompt = Prompt(kind="causal", template=template, label_words=words)
        ids.add(plain.model_copy(update={"prompt": prompt}).config_id)
    assert len(ids) == 4
    assert PromptEntry(template="{text}", label_words=["a", "b"]).label_words == {2: ("a", "b")}
