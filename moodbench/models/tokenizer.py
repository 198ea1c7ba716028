"""Texts as inputs of models: tokens, truncation at the length limit, prompt templates, and padding of batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.config.schema import MASK, TextDefaults
from moodbench.errors import MoodBenchError, PrerequisiteError
from moodbench.models.prompting import TEMPLATE_FILE, LabelTokens, Template, chat_template, label_tokens, template_of
from moodbench.spec import FitSpec, Prompt

if TYPE_CHECKING:
    import torch

Logits = npt.NDArray[np.float32]
"""Class scores (texts, labels) of a model."""
_COUNTED_AT_ONCE = 1000
"""Texts tokenised at once when tokens are counted; bounds the memory that counting takes."""
_MIN_TEXT_TOKENS = 8
"""Minimum number of tokens that a template must leave for the text."""


@dataclass(frozen=True)
class Encoded:
    """Texts as the inputs of a predictor, in their original order."""

    inputs: Sequence[Any]
    num_tokens: npt.NDArray[np.int32]
    """Tokens of each text after truncation, including special tokens; -1 for models without tokens."""
    truncated: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.int64]) -> Encoded:
        """Return only these rows, in this order."""
        return Encoded([self.inputs[i] for i in rows], self.num_tokens[rows], self.truncated[rows])

    def __len__(self) -> int:
        return len(self.inputs)


class _Filled(NamedTuple):
    ids: list[int]
    offsets: list[tuple[int, int]]


class Tokenizer:
    """A model's tokenizer with the length limit of a recipe and, for prompts, the template around each text."""

    def __init__(
        self,
        tokenizer: Any,
        text: TextDefaults,
        prompt: Prompt | None = None,
        template: Template | None = None,
        name: str = "",
    ) -> None:
        if tokenizer.pad_token is None:  # decoders are trained without one; any token will do, as padding is masked
            tokenizer.pad_token = _any_token(tokenizer, name)
        self.hf = tokenizer
        self.pad_id: int = tokenizer.pad_token_id
        ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, self.pad_id)
        self._filler: int = next(token for token in ends if token is not None)
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_padding()
        self.limit: int = min(text.max_length, tokenizer.model_max_length)
        """Maximum input length in tokens: the smaller of the recipe's and the model's limit."""
        self._side = text.truncation_side
        self.template: Template | None = None
        """Text before and after each input; None without a prompt."""
        self.label_tokens: LabelTokens | None = None
        """Token ids of the label words; None without a prompt."""
        if prompt is not None:
            self._backend.no_truncation()
            template = template or template_of(prompt)
            if prompt.chat:
                template = chat_template(tokenizer, template, name)
            self.label_tokens = label_tokens(self._backend, prompt, template, name, tokenizer.mask_token)
            self.template = Template(*(part.replace(MASK, tokenizer.mask_token or "") for part in template))
            self._check_space(name)
        else:
            self._backend.enable_truncation(self.limit, direction=self._side)

    @classmethod
    def load(
        cls,
        folder: Path,
        text: TextDefaults,
        *,
        trust_remote_code: bool = False,
        prompt: Prompt | None = None,
        template: Template | None = None,
        name: str = "",
    ) -> Tokenizer:
        """Return the tokenizer whose files are in `folder`, without prompting on the terminal about custom code.

        With `prompt`, texts are inserted in its template, or in `template`, which includes few-shot examples.

        Raises: PrerequisiteError, naming model `name`, if the label words or the template do not suit the tokenizer.
        """
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise PrerequisiteError(
                f"model {name}: {folder} has a {type(tokenizer).__name__} in Python alone; a tokenizer.json is needed, "
                "as `save_pretrained` of a fast tokenizer writes it"
            )
        positions = num_positions(folder)
        if positions is not None and positions < tokenizer.model_max_length:
            tokenizer.model_max_length = positions  # saved with the tokenizer, for artifacts have no config.json
        return cls(tokenizer, text, prompt, template, name)

    def _check_space(self, name: str) -> None:
        """Raise PrerequisiteError if the template leaves fewer than _MIN_TEXT_TOKENS tokens for a text."""
        alone = len(self._in_template(self.template.fill("")).ids) if self.template else 0
        if alone + _MIN_TEXT_TOKENS > self._max_filled:
            raise PrerequisiteError(
                f"model {name}: the template is {alone} tokens, of a maximum of {self._max_filled} beside the label "
                f"words; at least {_MIN_TEXT_TOKENS} are needed for the text: raise text.max_length (--text "
                "max_length=...), shorten the template, or show fewer examples"
            )

    @property
    def _max_filled(self) -> int:
        """Maximum tokens of template and text, with the tokens of label words that may be appended deducted."""
        assert self.label_tokens is not None
        return self.limit - len(self.label_tokens.shared) - max(map(len, self.label_tokens.paths))

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the texts as token ids, unpadded and at least one; truncation never shortens the template.

        A text without any token, such as an empty one for a decoder that adds no special tokens, becomes the token that
        begins or ends a sequence.
        """
        if self.template is not None:
            cut = [self._cut(text) for text in texts]
        else:
            cut = [(e.ids or [self._filler], bool(e.overflowing)) for e in self._backend.encode_batch(list(texts))]
        counts = np.array([len(ids) for ids, _ in cut], dtype=np.int32)
        return Encoded([ids for ids, _ in cut], counts, np.array([is_cut for _, is_cut in cut], dtype=bool))

    def _cut(self, text: str) -> tuple[list[int], bool]:
        assert self.template is not None and self.label_tokens is not None
        found = self._in_template(self.template.fill(text))
        ids, excess = found.ids, len(found.ids) - self._max_filled
        if excess > 0:
            start = len(self.template.before)
            end = start + len(text)
            inside = [i for i, (a, b) in enumerate(found.offsets) if start <= a < b <= end]
            dropped = set(inside[-excess:] if self._side == "right" else inside[:excess])
            ids = [token for i, token in enumerate(ids) if i not in dropped]
        return [*ids, *self.label_tokens.shared] or [self._filler], excess > 0

    def _in_template(self, filled: str) -> _Filled:
        """Return the token ids and character offsets of a filled template, without the trailing special tokens."""
        assert self.label_tokens is not None
        found = self._backend.encode(filled)
        kept = len(found.ids) - self.label_tokens.num_trailing
        return _Filled(found.ids[:kept], found.offsets[:kept])

    def num_tokens(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the number of tokens of each text before truncation, including special tokens and the template."""
        if self.template is not None:
            texts = [self.template.fill(text) for text in texts]
        self._backend.no_truncation()
        try:
            blocks = (texts[i : i + _COUNTED_AT_ONCE] for i in range(0, len(texts), _COUNTED_AT_ONCE))
            return np.array(
                [len(e) for block in blocks for e in self._backend.encode_batch_fast(list(block))], np.int64
            )
        finally:
            if self.template is None:
                self._backend.enable_truncation(self.limit, direction=self._side)

    def pad(self, inputs: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Return input_ids and attention_mask (texts, longest), padded on the right."""
        import torch

        longest = max(len(ids) for ids in inputs)
        padded = np.full((len(inputs), longest), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(inputs), longest), dtype=np.int64)
        for row, ids in enumerate(inputs):
            padded[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        return {"input_ids": torch.from_numpy(padded), "attention_mask": torch.from_numpy(mask)}


_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "data2vec-text",
                     "ibert", "roberta-prelayernorm", "xmod"}  # fmt: skip
"""Model types whose position embeddings begin after that of the padding token, so that some rows are never used."""


def num_positions(folder: Path) -> int | None:
    """Return how many tokens the model in `folder` reads by its config.json; None if it states no limit."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text("utf-8"))
    config = {**config, **(config.get("text_config") or {})}
    stated = next((config[k] for k in ("max_position_embeddings", "n_positions") if isinstance(config.get(k), int)), 0)
    if config.get("model_type") in _OFFSET_POSITIONS:
        padding = config.get("pad_token_id")
        stated -= 2 if padding is None else int(padding) + 1
    return stated if stated > 0 else None


def _any_token(tokenizer: Any, name: str) -> str:
    """Return a token of the vocabulary that can fill up batches, or raise PrerequisiteError if none is special."""
    kinds = ("eos", "unk", "bos", "sep", "cls", "mask")
    found = next((token for kind in kinds if (token := getattr(tokenizer, f"{kind}_token"))), None)
    if found is None:
        raise PrerequisiteError(
            f"model {name}: its tokenizer has no pad_token, nor one of {', '.join(f'{kind}_token' for kind in kinds)}; "
            "name a pad_token of its vocabulary in tokenizer_config.json"
        )
    return str(found)


def load_tokenizer(spec: FitSpec, folder: Path) -> Tokenizer:
    """Return the tokenizer of a fit from `folder`: the base model's folder, or the tokenizer folder of an artifact."""
    assert spec.text is not None
    template = Template.load(folder.parent) if (folder.parent / TEMPLATE_FILE).is_file() else None
    trusted = spec.model.trust_remote_code
    return Tokenizer.load(
        folder, spec.text, trust_remote_code=trusted, prompt=spec.prompt, template=template, name=spec.model.name
    )


@contextmanager
def refusing_damage(name: str, folder: Path) -> Iterator[None]:
    """Raise PrerequisiteError for what tokenizer libraries raise while they read the files of model `name`."""
    try:
        yield
    except MoodBenchError:
        raise
    except Exception as error:  # these libraries raise many types, even a plain Exception
        raise PrerequisiteError(
            f"model {name}: its tokenizer in {folder} cannot be loaded ({str(error)[:200]}); get its files again, for "
            "a model of the hub with `moodbench catalogue fetch`, or leave the model out"
        ) from error


def check_prompt(folder: Path, prompt: Prompt, name: str) -> None:
    """Raise PrerequisiteError if the label words or the chat format of `prompt` do not suit the tokenizer in `folder`.

    So it does if the files of the tokenizer are damaged.

    transformers is only imported if the prompt is a chat or `folder` has no tokenizer.json.
    """
    template = template_of(prompt)
    with refusing_damage(name, folder):
        if prompt.chat or not (folder / "tokenizer.json").is_file():
            from transformers import AutoTokenizer

            loaded = AutoTokenizer.from_pretrained(folder)
            template = chat_template(loaded, template, name) if prompt.chat else template
            backend, mask = loaded.backend_tokenizer, loaded.mask_token
        else:
            backend, mask = _backend_and_mask(folder)
        backend.no_truncation()
    label_tokens(backend, prompt, template, name, mask)


def _backend_and_mask(folder: Path) -> tuple[Any, str | None]:
    """Return the tokenizer of tokenizer.json and its mask token, if it has one, without importing transformers."""
    import tokenizers

    backend, settings = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")), folder / "tokenizer_config.json"
    stated = json.loads(settings.read_text("utf-8")).get("mask_token") if settings.is_file() else None
    own = stated.get("content") if isinstance(stated, dict) else stated
    return backend, next((t for t in (own, "[MASK]", "<mask>") if t and backend.token_to_id(t) is not None), None)
