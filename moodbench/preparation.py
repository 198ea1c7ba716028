"""Preparation steps of texts, named by a source or by a request: markup, escapes, links, mentions and case."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from moodbench.config.schema import PreparationStep

LINK, MENTION = "http", "@user"
"""Placeholders for links and mentions, as in TweetEval.

Source: Barbieri et al. 2020, https://doi.org/10.18653/v1/2020.findings-emnlp.148.
"""
_LINK = re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)
_MENTION = re.compile(r"(?<![\w@.])@\w+")
_ESCAPES = {r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\"": '"'}
MARKUP: dict[PreparationStep, re.Pattern[str]] = {
    "entities": re.compile(r"&(?:[A-Za-z][A-Za-z0-9]+|#[0-9]+|#[xX][0-9a-fA-F]+);"),
    "breaks": re.compile(r"<br\s*/?>", re.IGNORECASE),
    "escapes": re.compile(r"(?<!\\)\\[nrt\"]"),
}
"""Step -> the markup of web pages and programs that it replaces: entities, `<br />`, and `\\n` or `\\"` in letters."""
MARKUP_NAMES = {"entities": "HTML entities such as &amp;", "breaks": "<br />", "escapes": r"a written \n or \""}
"""Step -> what it replaces, in messages."""
STEPS: dict[PreparationStep, Callable[[str], str]] = {
    "entities": html.unescape,
    "breaks": lambda text: MARKUP["breaks"].sub("\n", text),
    "escapes": lambda text: MARKUP["escapes"].sub(lambda found: _ESCAPES[found.group()], text),
    "links": lambda text: _LINK.sub(LINK, text),
    "mentions": lambda text: _MENTION.sub(MENTION, text),
    "lowercase": str.lower,
}
"""Steps in the order in which they are applied, whatever order they are named in."""


def ordered(steps: Iterable[PreparationStep]) -> Iterator[PreparationStep]:
    """Yield `steps` in the order of `STEPS`."""
    wanted = set(steps)
    return (step for step in STEPS if step in wanted)


def prepare_text(text: str, steps: Iterable[PreparationStep]) -> str:
    """Return `text` after `steps`; idempotent, except for entities that were escaped twice."""
    for step in ordered(steps):
        text = STEPS[step](text)
    return text


def prepare_counted(text: str, steps: Sequence[PreparationStep], num_changed: Counter[PreparationStep]) -> str:
    """Return `text` after `steps`, stripped, and count in `num_changed` the steps that changed it."""
    for step in ordered(steps):
        changed = STEPS[step](text)
        num_changed[step] += changed != text
        text = changed
    return text.strip() if steps else text


def num_with_markup(texts: Iterable[str]) -> dict[PreparationStep, int]:
    """Return step -> number of `texts` with markup that it would replace; see `MARKUP`."""
    found: Counter[PreparationStep] = Counter()
    for text in texts:
        found.update(step for step, pattern in MARKUP.items() if pattern.search(text))
    return {step: found[step] for step in MARKUP}
