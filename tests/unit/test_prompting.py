"""Templates, label words as tokens, and what is refused, on a word tokenizer whose ids can be written down."""

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from moodbench.config import load_catalogue
from moodbench.errors import PrerequisiteError
from moodbench.models.prompting import LabelTokens, Template, label_tokens, template_of
from moodbench.models.tokenizer import Tokenizer
from moodbench.spec import Prompt

WORDS = ["[UNK]", "[SEP]", "[MASK]", "a", "b", "c", "good", "bad", "very", "so", ":"]
ID = {word: i for i, word in enumerate(WORDS)}
TEXT = load_catalogue().training.text


def backend(*, closing=False):
    made = Backend(models.WordLevel(ID, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if closing:
        made.post_processor = processors.TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", ID["[SEP]"])])
    return made


def prompt(*words, template="so {text} :", kind="causal"):
    return Prompt(kind=kind, template=template, label_words=words)


def ids(*words):
    return tuple(ID[word] for word in words)


@pytest.mark.parametrize(
    ("words", "shared", "rest", "paths"),
    [
        ((" bad", " good"), (), (ids("bad"), ids("good")), ((),)),
        ((" very bad", " very good"), ids("very"), (ids("bad"), ids("good")), ((),)),
        ((" very bad", " good"), (), (ids("very", "bad"), ids("good")), (ids("very"),)),
        ((" very bad", " so bad", " good"), (), (ids("very", "bad"), ids("so", "bad"), ids("good")), (ids("very"), ids("so"))),
        ((" a very", " a very bad", " a"), (), (ids("a", "very"), ids("a", "very", "bad"), ids("a")), (ids("a", "very"),)),
    ],
)  # fmt: skip
def test_words_are_scored_after_what_they_share(words, shared, rest, paths):
    found = label_tokens(backend(), prompt(*words), template_of(prompt(*words)), "m")
    assert (found.shared, found.words, found.num_trailing) == (shared, rest, 0)
    assert found.paths == tuple(sorted(paths))


def test_the_end_that_a_tokenizer_adds_is_not_read_before_the_answer():
    found = label_tokens(backend(closing=True), prompt(" bad", " good"), template_of(prompt(" bad", " good")), "m")
    assert found == LabelTokens((), (ids("bad"), ids("good")), 1)
    read = a_tokenizer(prompt(" bad", " good"), closing=True)
    assert read.encode(["a b"]).inputs[0] == list(ids("so", "a", "b", ":"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (prompt(" bad", " great"), r"model m: label word ' great' is not in its vocabulary; choose"),
        (prompt(" bad", " bad "), r"label words ' bad' and ' bad ' are the same tokens"),
        (prompt(" very bad", " good", template="{text} {mask}", kind="masked"), r"' very bad' has 2 tokens, .* predicts one"),
    ],
)  # fmt: skip
def test_words_that_cannot_be_told_apart_are_refused(given, message):
    with pytest.raises(PrerequisiteError, match=message):
        label_tokens(backend(), given, template_of(given), "m", "[MASK]")


def test_a_word_that_merges_with_the_template_is_refused():
    whole = Backend(models.WordLevel({"x": 0, "end": 1, "endbad": 2, "endgood": 3, "[UNK]": 4}, unk_token="[UNK]"))
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(PrerequisiteError, match=r"'bad' merges with the end of the template '\{text\} end' into other"):
        merging = prompt("bad", "good", template="{text} end")
        label_tokens(whole, merging, template_of(merging), "m")


def test_a_model_without_a_mask_token_cannot_fill_one_in():
    with pytest.raises(PrerequisiteError, match="its tokenizer has no mask token"):
        masked = prompt(" bad", " good", template="{text} {mask}", kind="masked")
        label_tokens(backend(), masked, template_of(masked), "m")


def a_tokenizer(given, max_length=16, side="right", closing=False, template=None):
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend(closing=closing), unk_token="[UNK]", eos_token="[SEP]", mask_token="[MASK]"
    )
    text = TEXT.model_copy(update={"max_length": max_length, "truncation_side": side})
    return Tokenizer(fast, text, given, template, "m")


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_a_text_without_tokens_becomes_the_token_that_ends_a_sequence(text):
    read = a_tokenizer(None)
    found = read.encode([text, "a b"])
    assert found.inputs == [[read.hf.eos_token_id], read.hf.convert_tokens_to_ids(["a", "b"])]
    assert read.pad(found.inputs)["attention_mask"].sum(dim=1).tolist() == [1, 2]


@pytest.mark.parametrize(("side", "kept"), [("right", ["a"] * 9), ("left", ["b"] * 9)])
def test_a_long_text_is_cut_and_its_template_is_not(side, kept):
    read = a_tokenizer(prompt(" very bad", " good", template="so so so {text} : : :"), 16, side)
    cut = read.encode(["a " * 20 + "c " + "b " * 20])
    # 16 tokens, one of them kept free for "very", which is appended where "very bad" is scored.
    assert cut.inputs == [list(ids("so", "so", "so", *kept, ":", ":", ":"))]
    assert cut.truncated.tolist() == [True]
    whole = read.encode(["a"])
    assert whole.inputs == [list(ids("so", "so", "so", "a", ":", ":", ":"))] and whole.truncated.tolist() == [False]
    assert read.num_tokens(["a", "a b c"]).tolist() == [7, 9]


def test_a_template_that_leaves_no_room_for_a_text_is_refused():
    with pytest.raises(
        PrerequisiteError, match=r"model m: the template is 10 tokens, of a maximum of 16 .* at least 8 are needed"
    ):
        a_tokenizer(prompt(" bad", " good", template="so " * 9 + "{text} :"), 16)


def test_text_that_looks_like_a_placeholder_stays_text():
    template = template_of(prompt(" bad", " good"), [("{text} {mask}", 0), ("b", 1)])
    assert template == Template("so {text} {mask} : bad\n\nso b : good\n\nso ", " :")


def test_examples_with_their_answers_come_before_the_text(tmp_path):
    template = template_of(
        prompt(" terrible", " great", template="{text} It was {mask}.", kind="masked"), [("Good", 1)]
    )
    assert template.fill("Bad") == "Good It was great.\n\nBad It was {mask}."
    template.save(tmp_path)
    assert Template.load(tmp_path) == template


CHAT = "{{ bos_token }}{% if messages[0].role != 'system' %}so very : {% endif %}{% for m in messages %}{{ m.content }}{% endfor %} a"
FORMATS = {
    "with a system's turn of its own": (CHAT, ("so", "very", ":", "b", "c", "so", "a")),
    "without": ("{% for m in messages %}{{ m.content }}{% endfor %} :", ("b", "c", "so", ":")),
}


def chatting(chat, closing=False):
    read = PreTrainedTokenizerFast(
        tokenizer_object=backend(closing=closing),
        unk_token="[UNK]",
        eos_token="[SEP]",
        mask_token="[MASK]",
        chat_template=chat,
    )
    given = prompt(" bad", " good", template="b {text} so").model_copy(update={"chat": True})
    return Tokenizer(read, TEXT.model_copy(update={"max_length": 32}), given, None, "m")


@pytest.mark.parametrize("form", FORMATS)
def test_a_chat_is_the_models_own_format_with_all_that_it_adds(form):
    chat, expected = FORMATS[form]
    assert chatting(chat).encode(["c"]).inputs[0] == list(ids(*expected))


@pytest.mark.parametrize(
    ("chat", "message"),
    [
        (None, "model m: its tokenizer has no chat template; choose a prompt without chat"),
        (
            "{{ raise_exception('roles must alternate') }}",
            r"does not accept a single user message \(roles must alternate\)",
        ),
        ("nothing", "its chat template omits the text"),
    ],
)
def test_a_chat_that_cannot_be_had_is_refused(chat, message):
    with pytest.raises(PrerequisiteError, match=message):
        chatting(chat)
