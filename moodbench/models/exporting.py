"""Export of a fine-tuned model as a plain transformers folder: merged weights, tokenizer, configuration."""

from __future__ import annotations

import json
from pathlib import Path

from moodbench.config.schema import TEXT
from moodbench.models.adapter import merged_model
from moodbench.models.encoder import TOKENIZER
from moodbench.models.tokenizer import load_tokenizer
from moodbench.spec import FitSpec

PROMPT_FILE = "label_words.json"
"""File of an exported language model with its template, its label words and their tokens."""


def save_merged(spec: FitSpec, artifact: Path, folder: Path) -> None:
    """Write the fine-tuned model of `artifact` to `folder`, with the adapter merged, in plain transformers format.

    The maximum length of the tokenizer is the one used in training, so that `truncation=True` has the same effect. For
    a language model with label words, PROMPT_FILE holds what is needed to read its answer.
    """
    from transformers import AutoTokenizer

    assert spec.text is not None
    tokenizer = load_tokenizer(spec, artifact / TOKENIZER)
    model = merged_model(spec, artifact, tokenizer, keep_head=spec.prompt is not None)
    if spec.prompt is not None:
        assert tokenizer.label_tokens is not None and tokenizer.template is not None
        model = model.with_own_head()
        about = {
            **spec.prompt.model_dump(exclude={"num_examples", "chat"}),
            "template": tokenizer.template.fill(TEXT),
            "labels": spec.dataset.labels,
            "label_token_ids": tokenizer.label_tokens.words,
            "ids_after_template": tokenizer.label_tokens.shared,
        }
        (folder / PROMPT_FILE).write_text(json.dumps(about, ensure_ascii=False, indent=1), encoding="utf-8")
    else:
        model.config.problem_type = "single_label_classification"
    model.save_pretrained(folder)
    # safetensors makes its file readable by the owner only.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
    saved = AutoTokenizer.from_pretrained(artifact / TOKENIZER, trust_remote_code=spec.model.trust_remote_code)
    saved.model_max_length = min(spec.text.max_length, saved.model_max_length)
    saved.truncation_side = spec.text.truncation_side
    saved.padding_side = "right"
    saved.save_pretrained(folder)
