"""Notes on models that were not trained enough, for the leaderboard and the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from moodbench.analysis.leaderboard import OVERALL
from moodbench.benchmark.retrain import Undertrained, longer_of
from moodbench.report.formatting import NOT_TRAINED_ENOUGH
from moodbench.training.verdict import NOT_ENOUGH, worst_training_verdict

WHY = {"undertrained": "loss still falling", "chance": "validation accuracy not above the most frequent class"}
"""Training verdict to what the learning curve shows."""
OF_RECIPES = "a difference of recipes, not of models"


def verdict_words(verdict: str, num_steps: int) -> str:
    """Return a verdict with its reason, such as undertrained (38 steps, loss still falling)."""
    return f"{NOT_TRAINED_ENOUGH[verdict]} ({num_steps:,} steps, {WHY[verdict]})"


def training_notes(board: pd.DataFrame, fits: pd.DataFrame) -> list[str]:
    """Return a note on the rows not trained enough, with what to do, and one on the over-fitted rows."""
    if board.empty or "training_verdict" not in board:
        return []
    rows = board[board["dataset"] != OVERALL]
    short, over = rows[rows["training_verdict"].isin(NOT_ENOUGH)], rows[rows["training_verdict"] == "overfitted"]
    notes = []
    if len(short):
        listed = "; ".join(_row_words(row, fits) for _, row in short.iterrows())
        notes.append(
            f"Not trained enough: {listed}. Ranks and groups that put such a row below another show {OF_RECIPES}; "
            "they do not show that its model is worse."
        )
    if len(over):
        listed = ", ".join(f"{row['name']} on {row['dataset']}" for _, row in over.iterrows())
        notes.append(
            f"Over-fitted at the end: {listed}. "
            "Validation scores fell after the best checkpoint; that one is kept and scored."
        )
    return notes


def undertrained_words(found: Undertrained, command: str | None) -> str:
    """Return a model's verdict after a run, with the `command` that trains it longer.

    Without such a command (None), it advises another learning rate.
    """
    words = f"{found.model} on {found.dataset}: {verdict_words(found.verdict, found.num_steps)}; "
    if found.suggested is None or command is None:
        return f"{words}it cannot have more epochs; change the learning rate, as in --train learning_rate=1e-3."
    other = " (or change learning_rate or patience with --train)" if found.verdict == "chance" else ""
    return f"{words}train longer (epochs {found.epochs:g} to {found.suggested.epochs:g}){other}: {command}"


def recipes_words(names: Sequence[str]) -> str:
    """Return the sentence that a difference is one of recipes, because the models `names` were not trained enough."""
    be = "was" if len(names) == 1 else "were"
    return f"{' and '.join(names)} {be} not trained enough: this is {OF_RECIPES}"


def not_trained_enough(rows: pd.DataFrame) -> list[str]:
    """Return the names of the `rows` that were not trained enough."""
    if "training_verdict" not in rows:
        return []
    return [str(name) for name in rows.loc[rows["training_verdict"].isin(NOT_ENOUGH), "name"]]


def _row_words(row: pd.Series[Any], fits: pd.DataFrame) -> str:
    """Return a leaderboard row with its verdict and the command that trains it longer, where the store knows one."""
    own = fits[fits["fit_id"].isin(row["fit_ids"]) & fits["training_verdict"].isin(NOT_ENOUGH)]
    verdict = worst_training_verdict(own["training_verdict"])
    assert verdict is not None
    words = f"{row['name']} on {row['dataset']}: {verdict_words(verdict, int(own['num_steps'].max()))}"
    proposed = [train.epochs for record in own.to_dict("records") if (train := longer_of(record)) is not None]
    if not proposed:
        return words
    return (
        f"{words}; train longer: moodbench run ... --models {row['model']} --train epochs={max(proposed):g} "
        "--retrain undertrained"
    )
