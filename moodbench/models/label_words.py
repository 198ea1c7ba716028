"""Classification with label words: a language model scores them after a template with its own output layer."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from transformers.modeling_outputs import SequenceClassifierOutput

from moodbench.models.prompting import LabelTokens


class AnswerHead(nn.Module):
    """The output layer of a language model, computed only at the positions that answer the prompt.

    With `rows` only those rows of the layer are kept, so that it scores these tokens instead of the whole vocabulary.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, layer: Any, rows: torch.Tensor | None) -> None:
        super().__init__()
        if rows is None:
            self.weight, self.bias = layer.weight, layer.bias
        else:
            self.weight = nn.Parameter(layer.weight.detach()[rows].clone(), requires_grad=False)
            bias = layer.bias
            self.bias = None if bias is None else nn.Parameter(bias.detach()[rows].clone(), requires_grad=False)
        self.positions: torch.Tensor | None = None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the scores (texts, positions, rows) of `hidden` (texts, tokens, width) at `self.positions`."""
        assert self.positions is not None
        index = self.positions.to(hidden.device).unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
        return functional.linear(hidden.gather(1, index), self.weight, self.bias)


class LabelWordClassifier(nn.Module):
    """A language model whose logits (texts, labels) are log-probabilities of label words.

    If every word is a single token, its score is the log-probability at the answer position, up to a term that is equal
    for all labels of a text and cancels in the softmax over labels. Only the rows of the label words are computed then.
    If any word has several tokens, each word scores the mean log-probability of its tokens over the whole vocabulary,
    as a sum would penalise longer words. Prefixes that several words share pass through the model once.

    Source: Brown et al. 2020, arXiv:2005.14165, section 2.4 (length normalisation).
    """

    def __init__(
        self,
        lm: Any,
        tokens: LabelTokens,
        kind: Literal["causal", "masked", "seq2seq"],
        *,
        mask_id: int | None = None,
        mask_is_last: bool = True,
        keep_head: bool = False,
    ) -> None:
        super().__init__()
        self.lm = lm
        self.config = lm.config
        self._tokens, self._kind, self._mask_id, self._mask_is_last = tokens, kind, mask_id, mask_is_last
        self._paths = tokens.paths
        self._whole = any(len(word) > 1 for word in tokens.words)
        rows = None if self._whole or keep_head else torch.tensor([word[0] for word in tokens.words])
        # Tuples keep torch from registering them: they are modules of `lm` already, or not part of this classifier.
        self._own_head: tuple[Any, ...] = (lm.get_output_embeddings(),) if keep_head else ()
        self._head = (AnswerHead(lm.get_output_embeddings(), rows),)
        self._scored = rows is not None
        lm.set_output_embeddings(self._head[0])

    def __getattr__(self, name: str) -> Any:
        """Return missing attributes, such as quantization or device map, from the language model."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("lm"), name)

    def with_own_head(self) -> Any:
        """Return the language model with its original output layer; requires `keep_head` in the constructor."""
        self.lm.set_output_embeddings(self._own_head[0])
        return self.lm

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Return float32 logits (texts, labels), and the mean cross-entropy if `labels` (texts,) are given.

        `input_ids` and `attention_mask` are (texts, tokens), padded on either side.
        """
        scores = self._scores(input_ids, attention_mask)
        loss = None if labels is None else functional.cross_entropy(scores, labels)
        return SequenceClassifierOutput(loss=loss, logits=scores)

    def _scores(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self._kind == "masked":
            columns = torch.arange(ids.shape[1], device=ids.device)
            found = (ids == self._mask_id) & mask.bool()
            ordered = columns if self._mask_is_last else columns.flip(0)
            return self._at(found.mul(ordered + 1).argmax(1, keepdim=True), input_ids=ids, attention_mask=mask)[:, 0]
        num_texts, paths = len(ids), self._paths
        depth = max(map(len, paths))
        begun = torch.tensor([[*path, *[0] * (depth - len(path))] for path in paths], device=ids.device)
        given = torch.tensor([[1] * len(path) + [0] * (depth - len(path)) for path in paths], device=ids.device)
        begun, given = begun.long().reshape(len(paths), depth), given.long().reshape(len(paths), depth)
        begun, given = begun.repeat(num_texts, 1), given.repeat(num_texts, 1)
        ids, mask = ids.repeat_interleave(len(paths), 0), mask.repeat_interleave(len(paths), 0)
        steps = torch.arange(depth + 1, device=ids.device)
        if self._kind == "seq2seq":
            start = torch.tensor([self._decoder_start()], device=ids.device).expand(len(ids), -1)
            positions = (start.shape[1] - 1 + steps).expand(len(ids), -1)
            decoder_ids = torch.cat([start, begun], 1)
            logits = self._at(positions, input_ids=ids, attention_mask=mask, decoder_input_ids=decoder_ids)
        else:
            last = mask.mul(torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1, keepdim=True)
            if depth:
                ids, mask = _extended(ids, mask, last, begun, given)
            # With padding on the left, positions start at the first token that is not padding.
            more = {} if bool(mask[:, 0].all()) else {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
            positions = (last + steps).clamp(max=ids.shape[1] - 1)
            logits = self._at(positions, input_ids=ids, attention_mask=mask, use_cache=False, **more)
        if self._scored:
            return logits[:, 0]
        chosen = self._tokens.words if self._whole else [(word[0],) for word in self._tokens.words]
        by_path = logits.log_softmax(-1).reshape(num_texts, len(paths), depth + 1, -1)
        scores = []
        for word in chosen:
            path = next(i for i, path in enumerate(paths) if path[: len(word) - 1] == word[:-1])
            scores.append(torch.stack([by_path[:, path, i, token] for i, token in enumerate(word)]).mean(0))
        return torch.stack(scores, 1)

    def _at(self, positions: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """Return the language model's logits in fp32 at `positions` (texts, positions) only."""
        self._head[0].positions = positions
        logits: torch.Tensor = self.lm(**inputs).logits.float()
        self._head[0].positions = None
        return logits

    def _decoder_start(self) -> list[int]:
        """Return the tokens that the decoder starts with before its answer."""
        generation = getattr(self.lm, "generation_config", None)
        forced = getattr(generation, "forced_bos_token_id", None)
        start = self.config.decoder_start_token_id
        return [start] if forced is None else [start, forced]


def _extended(
    ids: torch.Tensor, mask: torch.Tensor, last: torch.Tensor, begun: torch.Tensor, given: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `ids` and `mask` with the tokens `begun` inserted after the `last` token of each text."""
    depth = begun.shape[1]
    columns = last + 1 + torch.arange(depth, device=ids.device)
    ids, mask = functional.pad(ids, (0, depth)), functional.pad(mask, (0, depth))
    return ids.scatter(1, columns, begun), mask.scatter(1, columns, given)
