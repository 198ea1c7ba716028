"""Datasets whose error messages the page may show, because a message may quote a private text."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from html import escape

from moodbench.config import Catalogue
from moodbench.errors import StoreError
from moodbench.store import Store
from moodbench.store.reading import read_bulk
from moodbench.store.schema import EXAMPLES

Tells = Callable[[str], bool]
"""Function from a dataset to whether the messages of its failures may be shown."""
UNTOLD = (
    "Messages that may quote a text that is private, or not known to be public, are not shown: they are in failures/ "
    "of the store, and on this page with --show-texts."
)


def tells_of(public: frozenset[str], *, show_texts: bool) -> Tells:
    """Return a function that allows the `public` datasets, or all where private texts may be shown (`show_texts`)."""
    return lambda dataset: show_texts or dataset in public


def public_datasets(store: Store) -> frozenset[str]:
    """Return the datasets in `store` whose texts are all known not to be private."""
    return frozenset(name for name, is_public in _known(store).items() if is_public)


def may_quote(store: Store, catalogue: Catalogue) -> bool:
    """Return whether the message of a run may quote a text that is not public.

    The text may come from a file of the user in the `catalogue`, or from this `store`.
    """
    own = any(entry.file is not None and entry.file.kaggle is None for entry in catalogue.datasets.values())
    return own or not all(_known(store).values())


def _known(store: Store) -> dict[str, bool]:
    """Return each dataset with texts in `store`, and whether all its texts are known not to be private."""
    known: dict[str, bool] = {}
    for key, stamp in store.location.stamps("examples").items():
        _, found, rest = key.partition("/dataset=")
        if found:
            name = rest.partition("/")[0]
            known[name] = known.get(name, True) and _is_public(store.uri, key, stamp)
    return known


def untold_hint(has_untold: bool) -> str:
    """Return where to find the messages that are not shown; empty where all are shown."""
    return f'<p class="mb-legend">{escape(UNTOLD)}</p>' if has_untold else ""


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
