"""What the page makes of an address: a state of which its controls know every value."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest
from page_store import MACHINE, four_entries

from moodbench.app.page import Page
from moodbench.app.tab import Services
from moodbench.app.url_state import State, read_state
from moodbench.store import Store

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path):
    return four_entries(tmp_path / "results")


def at_addresses(store: Store, *queries: dict) -> list[tuple[State, dict]]:
    """The state of the page at each of these, and the values that its controls then have, once they have taken them."""

    async def built() -> Page:
        page = Page(store, MACHINE, Services())
        page.build()
        return page

    page = asyncio.run(built())  # without a running loop, Gradio makes loops that nobody closes
    found = []
    for query in queries:
        (state, updates), values = page._offered(read_state(query)), {}
        for name, control in page._controls.items():
            component, update = control.component, updates[control.component]
            component.choices = update.get("choices", getattr(component, "choices", None))
            values[name] = component.preprocess(update["value"])  # raises for a value that is not among the choices
        found.append((state, values))
    return found


def test_what_no_control_offers_counts_as_not_given(store):
    strange = {name: "bogus" for name in ("against", "columns", "methods", "models", "track")}
    partly = {"columns": "bogus;mcc", "models": "bogus;unmeasured", "max_params": "25", "against": "num_params"}
    (plain, _), *found = at_addresses(store, {}, strange | {"max_params": "33"}, partly)
    understood = State(columns=("mcc",), models=("unmeasured",), max_params=25.0, against="num_params")
    assert [state for state, _ in found] == [plain, understood] and plain == State()
    assert [read_state(values) for _, values in found] == [plain, understood], "the controls show the same view"


def test_an_address_keeps_what_a_store_that_cannot_be_read_may_offer_later(store):
    os.truncate(next((Path(store.uri) / "fits").rglob("*.parquet")), 100)
    given = {"track": "toy-set (1,000 training texts)", "models": "unmeasured", "against": "num_params"}
    (state, values), (other, _) = at_addresses(store, given, given | {"against": "bogus"})
    assert state == read_state(given) and other == replace(state, against=State().against)
    assert values["against"] == "num_params" and values["track"] is None
