"""Seeded augmentation of training texts: word deletion, word swap and punctuation insertion; labels do not change.

Source: Wei & Zou (2019), EDA, https://doi.org/10.18653/v1/D19-1670 (random deletion and swap); Karimi, Rossi & Prati
(2021), AEDA, https://doi.org/10.18653/v1/2021.findings-emnlp.234 (punctuation). Unlike there, each word is drawn
independently, so that the expected share of changed words is the requested one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from moodbench.config.schema import Augmentation

MARKS = (".", ",", "!", "?", ";", ":")


def augmented(train: pd.DataFrame, augmentation: Augmentation, seed: int) -> pd.DataFrame:
    """Return `train` (example_id, text, label, ...) followed by `copies` augmented copies of each row, with new ids.

    Each text has its own random generator, seeded with `seed`, the number of the copy and the example id, so that the
    result does not depend on the order of the rows. The original rows do not change.
    """
    parts = [train]
    for copy in range(1, augmentation.copies + 1):
        changed = train.copy()
        changed["text"] = [
            changed_text(text, augmentation, np.random.default_rng([seed, copy, int(example_id, 16)]))
            for text, example_id in zip(train["text"], train["example_id"], strict=True)
        ]
        changed["example_id"] = [f"{example_id}-{copy}" for example_id in train["example_id"]]
        parts.append(changed)
    return pd.concat(parts, ignore_index=True)


def changed_text(text: str, augmentation: Augmentation, rng: np.random.Generator) -> str:
    """Return `text` with words deleted, then swapped with the next, then preceded by marks; one word always remains."""
    words = text.split()
    remaining = [
        word for word, drop in zip(words, rng.random(len(words)) < augmentation.word_dropout, strict=True) if not drop
    ]
    words = remaining or words[:1]
    for place in np.flatnonzero(rng.random(max(0, len(words) - 1)) < augmentation.word_swap):
        words[place], words[place + 1] = words[place + 1], words[place]
    with_marks: list[str] = []
    for word, insert in zip(words, rng.random(len(words)) < augmentation.punctuation, strict=True):
        with_marks += [str(rng.choice(MARKS)), word] if insert else [word]
    return " ".join(with_marks)
