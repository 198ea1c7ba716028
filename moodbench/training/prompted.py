"""Prompting of language models without training: the fit selects the few-shot examples."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd

from moodbench.data.examples import subsample
from moodbench.models.base import LANGUAGE_MODELS, base_folder
from moodbench.models.device import parameter_count
from moodbench.models.device_map import empty_model
from moodbench.models.encoder import TOKENIZER
from moodbench.models.prompting import template_of
from moodbench.models.tokenizer import Tokenizer, load_tokenizer
from moodbench.spec import FitSpec
from moodbench.training.outcome import FitOutcome


def fit_prompted(spec: FitSpec, train: pd.DataFrame, folder: Path) -> FitOutcome:
    """Save the tokenizer, and the template with its few-shot examples, in `folder`.

    The examples are training texts, sampled with the subsampling seed, balanced over classes as far as possible, and
    shuffled. Texts that exceed an equal share of the maximum input length are excluded; if too few remain, the template
    has fewer examples than the prompt asks for.

    Raises: PrerequisiteError if the template with its examples leaves no space for a text.
    """
    assert spec.prompt is not None and spec.text is not None
    started = time.perf_counter()
    source = base_folder(spec.model)
    tokenizer = load_tokenizer(spec, source)
    shown = _examples(spec, train, tokenizer)
    template = template_of(spec.prompt, shown)
    Tokenizer(tokenizer.hf, spec.text, spec.prompt, template, spec.model.name)  # checks that texts fit in the template
    template.save(folder)
    tokenizer.hf.save_pretrained(folder / TOKENIZER)
    return FitOutcome(
        num_params=_num_params(spec, source),
        num_trainable=0,
        num_train=len(train),
        num_validation=0,
        train_time_s=time.perf_counter() - started,
        num_texts_trained=0,
        best_step=None,
        validation={},
        chosen={"num_examples": len(shown)},
    )


def _num_params(spec: FitSpec, folder: Path) -> int:
    """Return the number of parameters of the language model, without loading its weights."""
    import transformers

    assert spec.prompt is not None
    trusted = spec.model.trust_remote_code
    layers = {"num_hidden_layers": spec.model.num_hidden_layers} if spec.model.num_hidden_layers else {}
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trusted, **layers)
    auto = getattr(transformers, LANGUAGE_MODELS[spec.prompt.kind])
    return parameter_count(empty_model(auto, config, trust_remote_code=trusted))


def _examples(spec: FitSpec, train: pd.DataFrame, tokenizer: Tokenizer) -> list[tuple[str, int]]:
    assert spec.prompt is not None
    number = spec.prompt.num_examples
    if not number:
        return []
    share = tokenizer.limit // (number + 1)
    short = train[tokenizer.num_tokens(train["text"].tolist()) <= share]
    drawn = subsample(short, number, spec.seeds.subsample, "balanced").sample(frac=1, random_state=spec.seeds.subsample)
    return [(str(text), int(label)) for text, label in zip(drawn["text"], drawn["label"], strict=True)]
