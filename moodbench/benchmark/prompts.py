"""Prompt of a model in a request: whether it answers with label words, and its template and words."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from moodbench.config import Catalogue
from moodbench.config.schema import MASK, Family, ModelEntry, PromptEntry
from moodbench.config.yaml_files import load_yaml, read_yaml_text, validated
from moodbench.errors import PrerequisiteError, SpecError
from moodbench.models.tokenizer import check_prompt
from moodbench.spec import BenchmarkSpec, Prompt

KINDS = {"decoder": "causal", "encoder": "masked", "encoder-decoder": "seq2seq"}
DEFAULTS = {"causal": "review", "masked": "mask", "seq2seq": "review"}
STARS = "stars"
"""Prompt of generative models for datasets whose labels are star ratings."""
_LANGUAGE_MODEL_HEAD = re.compile(r"LMHead|ForCausalLM|ForMaskedLM|ForConditionalGeneration|ForPreTraining|ForSeq2Seq")


def prompt_of(
    name: str,
    entry: ModelEntry,
    family: Family,
    catalogue: Catalogue,
    spec: BenchmarkSpec,
    labels: Sequence[str],
    folder: Path | None,
) -> Prompt | None:
    """Return the prompt of model `name` for `labels`; None if it has a classification head.

    `folder` holds the model's files. If it is None, they are not on this machine, and the prompt is not checked against
    them.

    Raises: UnknownNameError, SpecError or PrerequisiteError if the prompt cannot be read or does not suit the model.
    """
    asked = "label-words" if entry.method == "prompted" else spec.head or entry.head
    has_head = folder is None or has_language_model_head(folder)
    if asked == "classification" or (asked is None and (family.kind == "encoder" or not has_head)):
        return None
    if not has_head:
        raise PrerequisiteError(
            f"model {name}: {folder} was saved without a language-model head, which label words need; "
            "use --head classification, or a checkpoint of the whole language model"
        )
    kind = KINDS[family.kind]
    chosen = spec.prompt or entry.prompt or _default(kind, labels)
    found, where = read_prompt(chosen, catalogue)
    if (MASK in found.template) != (kind == "masked"):
        needs = (
            f"has no {MASK}, where it would answer" if kind == "masked" else f"has {MASK}, which only encoders fill in"
        )
        raise SpecError(f"model {name}: {where}: template {found.template!r} {needs}; choose another with --prompt")
    if len(labels) not in found.label_words:
        raise SpecError(
            f"model {name}: {where}: has label words for {' or '.join(map(str, sorted(found.label_words)))} classes, "
            f"the dataset has {len(labels)} ({', '.join(labels)}); give words for them in a file with --prompt"
        )
    if found.chat and kind != "causal":
        raise SpecError(f"model {name}: {where}: is a chat, which only decoders have; choose another with --prompt")
    prompt = Prompt.model_validate(
        {
            "kind": kind,
            "template": found.template,
            "label_words": found.label_words[len(labels)],
            "chat": found.chat,
            "num_examples": entry.num_examples,
        }
    )
    if folder is not None:
        check_prompt(folder, prompt, name)
    return prompt


def _default(kind: str, labels: Sequence[str]) -> str:
    return STARS if kind != "masked" and set(labels) <= set("12345") else DEFAULTS[kind]


def read_prompt(chosen: str, catalogue: Catalogue) -> tuple[PromptEntry, str]:
    """Return the prompt that `chosen` names, and what to call it in a message.

    `chosen` is a name of the catalogue or a YAML file.

    Raises: PrerequisiteError for a file that cannot be read, SpecError for an invalid prompt, UnknownNameError for a
    name that the catalogue does not have.
    """
    if not chosen.endswith((".yaml", ".yml")):
        return catalogue.prompt(chosen), f"prompt {chosen}"
    text = read_yaml_text(Path(chosen), "template and label_words", "--prompt")
    return validated(PromptEntry, load_yaml(text, chosen), chosen, text), chosen


def has_language_model_head(folder: Path) -> bool:
    """Return whether the model class in the config.json of `folder` has a language-model head."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return any(_LANGUAGE_MODEL_HEAD.search(str(each)) for each in config.get("architectures") or ())
