"""prompts.yaml: templates and label words of models with the `label-words` head."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from moodbench.config.schema.base import Entry

TEXT, MASK = "{text}", "{mask}"
"""Placeholders of a template: the text, and the mask token of a masked language model."""
LabelWords = Annotated[tuple[str, ...], Field(min_length=2)]


class PromptEntry(Entry):
    """A template and its label words, one per class."""

    description: str = "a prompt of your own"
    template: str
    """Contains `{text}` once and, for masked language models, `{mask}` once."""
    chat: bool = False
    """Whether to apply the tokenizer's chat template: the template is the user's turn, the answer the assistant's."""
    label_words: dict[Annotated[int, Field(ge=2)], LabelWords] = Field(min_length=1)
    """Number of classes -> one word per class, most negative first; a plain list has one word per class."""

    @field_validator("label_words", mode="before")
    @classmethod
    def _by_number_of_classes(cls, value: Any) -> Any:
        return {len(value): value} if isinstance(value, list | tuple) else value

    @field_validator("template")
    @classmethod
    def _has_its_text(cls, template: str) -> str:
        if template.count(TEXT) != 1:
            raise ValueError(f"must contain {TEXT} exactly once, where the text goes")
        if template.count(MASK) > 1:
            raise ValueError(f"may contain {MASK} once, where a masked language model answers")
        return template

    @model_validator(mode="after")
    def _one_word_per_class(self) -> PromptEntry:
        for num_classes, words in self.label_words.items():
            if len(words) != num_classes:
                raise ValueError(f"label_words.{num_classes}: has {len(words)} words; give one for each class")
            empty = [word for word in words if not word.strip()]
            if empty:
                raise ValueError(f"label_words.{num_classes}: {empty[0]!r} is empty; give a word")
            repeated = sorted({word for word in words if words.count(word) > 1})
            if repeated:
                raise ValueError(
                    f"label_words.{num_classes}: {repeated[0]!r} stands for two classes; give each its own"
                )
        return self


class PromptsFile(Entry):
    """Schema of prompts.yaml."""

    prompts: dict[str, PromptEntry]
