"""Searches on the page and in the report, and that the page notices a new one."""

from datetime import datetime
from xml.etree import ElementTree

import pytest
from page_store import MACHINE, write_trial
from test_search_analysis import trial
from toy_store import write_toy_store

from moodbench.analysis.results import read_results
from moodbench.app.page import TABS, render_tab
from moodbench.app.snapshot import CHECK_EVERY_S, Snapshot, SnapshotReader
from moodbench.app.tab import Services
from moodbench.app.training import render_search, search_choices, search_summary
from moodbench.app.url_state import State
from moodbench.report.files import REPORT, write
from moodbench.report.leaderboard_view import StoreView, view_leaderboard
from moodbench.store import Store
from moodbench.tune.result import searches
from moodbench.tune.trials import put_trial

pytestmark = pytest.mark.integration
(TRAINING,) = (tab for tab in TABS if tab.key == "training")


def with_search(store: Store, letter: str = "s", num_trials: int = 3) -> None:
    for number in range(num_trials):
        made = trial(number, 0.6 + number / 100, **{"lora.r": 2**number, "lora.alpha_over_r": 2})
        put_trial(store, type(made)(**{**vars(made), "search_id": letter * 20}))


def test_the_page_notices_a_new_search(tmp_path):
    store, now = Store.open(tmp_path), [0.0]
    write_trial(store, 1, "tfidf-logreg", 0.76, {})
    reader = SnapshotReader(store, MACHINE, clock=lambda: now[0])
    first = render_tab(reader, TRAINING, State(tab="training"), Services())
    assert first.outputs is not None and first.outputs[3].visible is False
    with_search(store)
    now[0] += CHECK_EVERY_S + 1
    shown = render_tab(reader, TRAINING, State(tab="training"), Services()).outputs
    assert shown is not None and shown[3].visible is True
    assert "3 configurations: 3 completed" in shown[4] and "lora.alpha_over_r" in shown[4]
    assert [len(plot.data) for plot in shown[5:8]] == [1, 1, 3] and not shown[8].data
    assert "Fewer than 8" in shown[8].layout.annotations[0].text


def test_a_store_that_holds_a_search_alone_shows_it(tmp_path):
    store = Store.open(tmp_path)
    with_search(store)
    shown = render_tab(SnapshotReader(store, MACHINE), TRAINING, State(tab="training"), Services())
    assert shown.notice == "" and shown.outputs is not None and "No results yet" in shown.outputs[0]
    assert "62.0" in shown.outputs[4]


def test_the_address_chooses_a_search_and_a_strange_one_shows_the_first(tmp_path):
    store = Store.open(tmp_path)
    with_search(store, "a", 2)
    with_search(store, "b", 4)
    snapshot = Snapshot(store, StoreView(read_results(store, MACHINE), searches(store)), datetime.now())
    assert [value for _, value in search_choices(snapshot)] == ["", "b" * 20]
    counts = [render_search(snapshot, State(tuning=given))[1].split(" ")[0] for given in ("", "b" * 20, "<script>")]
    assert counts == ["<p>2", "<p>4", "<p>2"]
    assert search_summary(snapshot.shown.searches[1]) in render_search(snapshot, State(tuning="b" * 20))


def test_the_report_has_a_section_for_each_search(tmp_path):
    store = write_toy_store(tmp_path / "results")
    with_search(store)
    written = write(view_leaderboard(store, MACHINE), store, REPORT, tmp_path / "report")
    figures = [path for path in written if path.suffix == ".svg" and path.name.startswith("search-")]
    assert [path.name for path in figures] == [
        f"search-{'s' * 12}-{key}.svg" for key in ("map", "coordinates", "budget")
    ]
    assert all(path.with_suffix(".png") in written for path in figures)
    assert all(ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg" for path in figures)
    for name in ("report.md", "report.html"):
        text = (tmp_path / "report" / name).read_text("utf-8")
        assert "Search: MiniLM-L3 · icwsm-movie · lora_rank_alpha" in text and "3 completed" in text
    assert text.count("95 % t interval over the trials of the cell") == 1 and "<script" not in text
