"""Privacy of texts: the page shows those known to be public, and messages only where no private text is quoted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from html import escape
from typing import Any

import pandas as pd

from moodbench.app.html import Html, details, legend, table
from moodbench.config import Catalogue
from moodbench.errors import StoreError
from moodbench.report.formatting import missing
from moodbench.store import Store
from moodbench.store.reading import read_bulk
from moodbench.store.schema import EXAMPLES

MessageFilter = Callable[[str], bool]
"""Function from a dataset to whether the messages of its failures may be shown."""
REDACTED = (
    "Error messages that may quote private texts are hidden. They are in failures/ of the store; "
    "start the page with --show-texts to see them here."
)


def message_filter(public: frozenset[str], *, show_texts: bool) -> MessageFilter:
    """Return a filter that allows the `public` datasets, or all where private texts may be shown (`show_texts`)."""
    return lambda dataset: show_texts or dataset in public


def public_datasets(store: Store) -> frozenset[str]:
    """Return the datasets in `store` whose texts are all known not to be private."""
    return frozenset(name for name, is_public in _datasets(store).items() if is_public)


def may_quote_private(store: Store, catalogue: Catalogue) -> bool:
    """Return whether the message of a run may quote a text that is not public.

    The text may come from a file of the user in the `catalogue`, or from this `store`.
    """
    own = any(entry.file is not None and entry.file.kaggle is None for entry in catalogue.datasets.values())
    return own or not all(_datasets(store).values())


def _datasets(store: Store) -> dict[str, bool]:
    """Return each dataset with texts in `store`, and whether all its texts are known not to be private."""
    found: dict[str, bool] = {}
    for key, stamp in store.location.stamps("examples").items():
        _, separator, rest = key.partition("/dataset=")
        if separator:
            name = rest.partition("/")[0]
            found[name] = found.get(name, True) and _is_public(store.uri, key, stamp)
    return found


@lru_cache(maxsize=1024)
def _is_public(uri: str, key: str, stamp: str) -> bool:
    """Return whether all texts of this file are known not to be private; False if the file cannot be read.

    `stamp` is part of the cache key, so that a changed file is read again.
    """
    try:
        private = read_bulk(Store.open(uri).location, [key], EXAMPLES, ["private"])["private"]
    except StoreError:
        return False
    return bool(private.eq(False).all())


def shown_text(row: Mapping[Any, Any] | pd.Series[Any], *, show_texts: bool) -> str:
    """Return the text of a test example, or why it is not shown."""
    if missing(row.get("text")):
        return "text not in the store"
    private = row.get("private")
    if show_texts or (not missing(private) and not private):
        return str(row["text"])
    reason = "not known whether private" if missing(private) else "private text"
    return f"{reason}: start with --show-texts to see it"


def failures_table(failures: pd.DataFrame, may_show: MessageFilter) -> str:
    """Return a table of the last attempt of each phase without a record, with its error; empty when there is none.

    For a dataset that `may_show` refuses, only the class of the error is shown.
    """
    if failures.empty:
        return ""
    rows, is_redacted = [], False
    for row in failures.to_dict("records"):
        message = None if missing(row["message"]) else str(row["message"])
        if message is not None and not may_show(str(row["dataset"])):
            message, is_redacted = None, True
        facts = (str(row[key]) for key in ("model", "dataset", "seed", "phase"))
        rows.append([*facts, _error_cell(str(row["error_class"]), message or "")])
    headings = ["Model", "Dataset", "Seed", "Phase", "Error"]
    subtitle = "the last attempt of each phase without a record"
    return table(headings, rows, "Failed", subtitle=subtitle, css="mb-left") + legend(REDACTED if is_redacted else "")


def _error_cell(error_class: str, message: str) -> Html:
    """Return the first line of an error, with the other lines folded below it."""
    lines = message.strip().splitlines()
    first = ": ".join([error_class, *lines[:1]])
    rest = escape("\n".join(lines[1:]))
    content = details(first, f"<pre>{rest}</pre>") if rest else escape(first)
    return Html(f'<div class="mb-message">{content}</div>')
