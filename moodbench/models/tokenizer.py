"""Texts to token ids, cut at the length limit, and padded into batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.config.schema import TextDefaults
from moodbench.spec import FitSpec

if TYPE_CHECKING:
    import torch


_COUNTED_AT_ONCE = 1000
"""Texts whose tokens are in memory while they are counted."""


class TokenisedText(NamedTuple):
    """One text as tokens, special ones included."""

    input_ids: list[int]
    truncated: bool


class Tokenizer:
    """A model's tokenizer with the length limit of one recipe."""

    def __init__(self, tokenizer: Any, text: TextDefaults) -> None:
        if tokenizer.pad_token is None:  # decoders are trained without; what stands there is masked
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        self.hf = tokenizer
        self.pad_id: int = tokenizer.pad_token_id
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_padding()
        self.limit: int = min(text.max_length, tokenizer.model_max_length)
        """Longest input in tokens: what the recipe allows, and no more than the model reads."""
        self._side = text.truncation_side
        self._backend.enable_truncation(self.limit, direction=self._side)

    @classmethod
    def load(cls, folder: Path, text: TextDefaults, *, trust_remote_code: bool = False) -> Tokenizer:
        """The tokenizer whose files are in `folder`; it never asks on the terminal whether to trust code there."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code), text)

    def encode(self, texts: Sequence[str]) -> list[TokenisedText]:
        """Each text as token ids, unpadded."""
        return [TokenisedText(e.ids, bool(e.overflowing)) for e in self._backend.encode_batch(list(texts))]

    def num_tokens(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Tokens of each whole text, special ones included; those above `limit` are cut by `encode`."""
        self._backend.no_truncation()
        try:
            blocks = (texts[i : i + _COUNTED_AT_ONCE] for i in range(0, len(texts), _COUNTED_AT_ONCE))
            return np.array(
                [len(e) for block in blocks for e in self._backend.encode_batch_fast(list(block))], np.int64
            )
        finally:
            self._backend.enable_truncation(self.limit, direction=self._side)

    def pad(self, inputs: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """input_ids and attention_mask (texts, longest), padded on the right."""
        import torch

        longest = max(len(ids) for ids in inputs)
        padded = np.full((len(inputs), longest), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(inputs), longest), dtype=np.int64)
        for row, ids in enumerate(inputs):
            padded[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        return {"input_ids": torch.from_numpy(padded), "attention_mask": torch.from_numpy(mask)}


def load_tokenizer(spec: FitSpec, folder: Path) -> Tokenizer:
    """The tokenizer of a fit from `folder`, that of its base model or of its artifact."""
    assert spec.text is not None
    return Tokenizer.load(folder, spec.text, trust_remote_code=spec.model.trust_remote_code)
