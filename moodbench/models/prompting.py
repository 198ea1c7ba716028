"""Prompt templates and the tokens of label words; imports no ML library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from moodbench.config.schema import MASK, TEXT
from moodbench.errors import PrerequisiteError
from moodbench.spec import Prompt

TEMPLATE_FILE = "template.json"
"""File of a prompted model's artifact with its template, including few-shot examples."""
BETWEEN_EXAMPLES = "\n\n"
_PLACE = "\ue000"
"""Private-use character that marks the position of the text while a chat template is applied."""
_SAMPLE = "x"
"""Sample text, used to find the tokens that follow a text."""


class Template(NamedTuple):
    """Prompt template: what a language model reads before and after a text."""

    before: str
    after: str

    def fill(self, text: str) -> str:
        """Return the complete prompt for `text`."""
        return f"{self.before}{text}{self.after}"

    def answered(self, text: str, word: str) -> str:
        """Return the complete prompt for `text` with the answer `word`."""
        if MASK in self.before + self.after:
            return f"{self.before.replace(MASK, word.strip())}{text}{self.after.replace(MASK, word.strip())}"
        return f"{self.fill(text)}{word}"

    def save(self, folder: Path) -> None:
        """Write the template to TEMPLATE_FILE in `folder`."""
        (folder / TEMPLATE_FILE).write_text(json.dumps(self._asdict(), ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Template:
        """Return the template that `save` wrote to `folder`."""
        return cls(**json.loads((folder / TEMPLATE_FILE).read_text("utf-8")))


def template_of(prompt: Prompt, examples: Sequence[tuple[str, int]] = ()) -> Template:
    """Return the template of `prompt`, preceded by the few-shot `examples` (text, label) and their answers."""
    before, _, after = prompt.template.partition(TEXT)
    plain = Template(before, after)
    shown = [plain.answered(text, prompt.label_words[label]) + BETWEEN_EXAMPLES for text, label in examples]
    return Template("".join(shown) + before, after)


class LabelTokens(NamedTuple):
    """Label words as token ids."""

    shared: tuple[int, ...]
    """Common prefix of all words; it is appended to the template."""
    words: tuple[tuple[int, ...], ...]
    """The rest of each word, one per class, never empty."""
    num_trailing: int
    """Special tokens that the tokenizer adds after an input; a causal model must not read them before it answers."""

    @property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """Prefixes after which a next token is scored, sorted, without those that are a prefix of another."""
        begun = {word[:-1] for word in self.words}
        return tuple(sorted(p for p in begun if not any(q != p and q[: len(p)] == p for q in begun)))


def chat_template(tokenizer: Any, template: Template, name: str) -> Template:
    """Return `template` as a user message in the chat format of `tokenizer`, up to the start of the assistant's answer.

    Anything else that the format adds, such as a default system message, is included.

    Raises: PrerequisiteError, naming model `name`, if the tokenizer has no chat template, or its chat template does not
    accept a single user message or drops its text.
    """
    turn = [{"role": "user", "content": template.fill(_PLACE)}]
    if tokenizer.chat_template is None:
        raise PrerequisiteError(f"model {name}: its tokenizer has no chat template; choose a prompt without chat")
    import jinja2

    try:
        whole = str(tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise PrerequisiteError(
            f"model {name}: its chat template does not accept a single user message ({error}); choose a prompt "
            "without chat"
        ) from error
    begin = tokenizer.bos_token
    if begin and whole.startswith(begin) and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]:
        whole = whole.removeprefix(begin)  # the tokenizer adds it
    before, place, after = whole.partition(_PLACE)
    if not place:
        raise PrerequisiteError(f"model {name}: its chat template omits the text; choose a prompt without chat")
    return Template(before, after)


def label_tokens(
    backend: Any, prompt: Prompt, template: Template, name: str, mask_token: str | None = None
) -> LabelTokens:
    """Return the label words of `prompt` as tokens of `backend`, a tokenizer of the tokenizers library.

    For causal models the words are tokenised as the continuation of `template`, for masked and encoder-decoder models
    on their own.

    Raises: PrerequisiteError, naming model `name`, if a word is not in the vocabulary, merges with the end of the
    template or has several tokens for a masked model, if two words have the same tokens, or if a masked model has no
    mask token.
    """
    num_trailing = 0
    if prompt.kind == "causal":
        base = backend.encode(template.fill(_SAMPLE)).ids
        found = []
        for word in prompt.label_words:
            ids, trailing = _appended(base, backend.encode(template.answered(_SAMPLE, word)).ids)
            if ids is None:
                raise PrerequisiteError(
                    f"model {name}: label word {word!r} merges with the end of the template {prompt.template!r} into "
                    "other tokens; end the template without a space and begin the words with one"
                )
            found.append(ids)
            num_trailing = trailing
    else:
        found = [tuple(backend.encode(word, add_special_tokens=False).ids) for word in prompt.label_words]
    if prompt.kind == "masked" and mask_token is None:
        raise PrerequisiteError(
            f"model {name}: its tokenizer has no mask token, so template {prompt.template!r} cannot be filled; "
            "use a template without {mask}, or a masked language model"
        )
    unknown = getattr(backend.model, "unk_token", None)
    unknown_id = backend.token_to_id(unknown) if unknown else None
    for word, ids in zip(prompt.label_words, found, strict=True):
        if not ids or unknown_id in ids:
            raise PrerequisiteError(
                f"model {name}: label word {word!r} is not in its vocabulary; choose words that are, with --prompt"
            )
        if prompt.kind == "masked" and len(ids) > 1:
            raise PrerequisiteError(
                f"model {name}: label word {word!r} has {len(ids)} tokens, but a masked language model predicts one; "
                "choose words of one token, with --prompt"
            )
    for first, ids in enumerate(found):
        if ids in found[:first]:
            words = prompt.label_words
            raise PrerequisiteError(
                f"model {name}: label words {words[found.index(ids)]!r} and {words[first]!r} are the same tokens, so "
                "the classes cannot be distinguished; choose different words, with --prompt"
            )
    shared = _shared(found) if prompt.kind == "causal" else ()
    return LabelTokens(shared, tuple(ids[len(shared) :] for ids in found), num_trailing)


def _appended(base: Sequence[int], whole: Sequence[int]) -> tuple[tuple[int, ...] | None, int]:
    """Return the tokens that `whole` adds to `base`, and how many tokens of `base` follow them.

    The tokens are None if `whole` is not `base` with tokens inserted at one position.
    """
    same = next((i for i, (a, b) in enumerate(zip(base, whole, strict=False)) if a != b), min(len(base), len(whole)))
    trailing = len(base) - same
    end = len(whole) - trailing
    if end < same or list(whole[end:]) != list(base[same:]):
        return None, 0
    return tuple(whole[same:end]), trailing


def _shared(words: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the longest common prefix of all words that leaves each word at least one token."""
    length = 0
    while all(len(word) > length + 1 for word in words) and len({word[: length + 1] for word in words}) == 1:
        length += 1
    return words[0][:length]
