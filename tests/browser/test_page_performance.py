"""How long a visitor of a large store waits, told by the browser's own clock; prints medians beside the load, asserts none.

uv run pytest -n 0 -s -m performance tests/browser/test_page_performance.py
"""

import os
import statistics
import time
from pathlib import Path

import psutil
import pytest
from chromium import Server, address, until
from generated_store import generate

from moodbench.analysis.cache import cached_results
from moodbench.app.page import TABS
from moodbench.hardware import hardware

pytestmark = [pytest.mark.performance, pytest.mark.timeout(3600)]

ROWS = "#mb-leaderboard tbody tr"
PAGES, MOVES = 5, 9
CLOCKS = """
// Milliseconds since the page was asked for: when the table is first painted, and when, after an input, it is painted with other
// rows or scores. Gradio touches the table without changing it, too.
window.mb = {table: null, asked: null, answered: null, touched: 0, before: ''};
const rows = () => [...document.querySelectorAll('#mb-leaderboard tbody tr')];
const shown = () => rows().map(r => r.dataset.name + r.querySelector('.mb-score').textContent).join();
const look = () => {
  if (rows().length && rows()[0].offsetHeight) {
    mb.table = performance.now();
    new MutationObserver(() => {
      mb.touched = performance.now();
      if (mb.asked && !mb.answered && shown() !== mb.before)
        requestAnimationFrame(() => requestAnimationFrame(() => { mb.answered = performance.now(); }));
    }).observe(document.querySelector('#mb-leaderboard'), {childList: true, subtree: true});
  } else requestAnimationFrame(look);
};
requestAnimationFrame(look);
const ask = () => { mb.asked = performance.now(); mb.before = shown(); mb.answered = null; };
for (const kind of ['input', 'click']) addEventListener(kind, ask, true);
"""


@pytest.mark.parametrize(
    ("models", "datasets", "seeds", "num_test"),
    [(60, 5, 5, 500), (400, 5, 5, 200)],
    ids=["60 entries x 5 sets x 5 seeds", "10,000 trials"],
)
def test_a_large_store_is_opened_and_ranked_again(browser, tmp_path, monkeypatch, models, datasets, seeds, num_test):
    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    store = generate(tmp_path / "results", num_models=models, num_datasets=datasets, num_seeds=seeds, num_test=num_test)
    cached_results(store, hardware(), in_store=True)  # as `moodbench store compact` does
    measured = measure(browser, store.uri, tmp_path / "server", models)
    loads = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"\n{models} entries, {models * datasets * seeds:,} trials: {'; '.join(measured)}; load {loads}")


def measure(browser, store: str, folder: Path, models: int) -> list[str]:
    """How long each thing took, in words; of a store with so many models."""
    began = time.monotonic()
    server = Server(["-m", "moodbench", "app", "--store", store], folder)
    context, recorder = browser()
    try:
        server.wait(600)
        measured = [f"server ready {time.monotonic() - began:.1f} s"]
        context.add_init_script(CLOCKS)
        page = context.new_page()
        page.set_default_timeout(300_000)
        process = psutil.Process(server.process.pid)
        opened = [table_visible(page, server.url)]
        before = computed(process)
        opened += [table_visible(page, server.url) for _ in range(PAGES)]
        per_page = (computed(process) - before) / PAGES
        measured.append(
            f"first page {opened[0]:.1f} s, warm page {spread(opened[1:])}, of which the server computes {per_page:.2f} s"
        )
        assert page.locator(ROWS).count() == models
        page.wait_for_selector("#trade-off .js-plotly-plot .main-svg", state="attached")
        page.get_by_role("button", name="What matters to you?").click()
        page.locator("#w-accuracy input[type=range]").focus()
        before = computed(process)
        moves = [painted_anew(page, lambda: page.keyboard.press("ArrowRight")) for _ in range(MOVES)]
        per_move = (computed(process) - before) / MOVES
        measured.append(f"slider {spread(moves)}, of which the server computes {per_move:.2f} s")
        box = page.locator("#search textarea, #search input").first
        measured.append(f"search {painted_anew(page, lambda: box.fill('synthetic-1')):.2f} s")
        box.fill("")
        until(lambda: page.locator(ROWS).count() == models, "all rows again", 300)
        page.get_by_role("button", name="Filters").click()
        measured.append(f"filter {painted_anew(page, lambda: page.get_by_label('lora', exact=True).check()):.2f} s")
        for tab in TABS[1:]:
            start = time.monotonic()
            page.get_by_role("tab", name=tab.title).click()
            until(lambda tab=tab: f"tab={tab.key}" in address(page), f"{tab.title} is filled", 300)
            measured.append(f"{tab.title} {time.monotonic() - start:.1f} s")
        assert recorder.problems == []
        return measured
    finally:
        context.close()
        server.stop()


def computed(process: psutil.Process) -> float:
    """Seconds of CPU that the server has used."""
    return sum(process.cpu_times()[:2])


def spread(seconds: list[float]) -> str:
    """The median and the ends."""
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}, {len(seconds)} times)"


def table_visible(page, url: str) -> float:
    """Seconds from asking for the page to its table."""
    page.goto(url, wait_until="commit")
    return page.wait_for_function("() => window.mb && mb.table").json_value() / 1000


def painted_anew(page, act) -> float:
    """Seconds from the event that `act` makes to the table that answers it."""
    page.wait_for_function("() => performance.now() - mb.touched > 500")  # what was asked before is all there
    page.evaluate("mb.asked = mb.answered = null")
    act()
    return page.wait_for_function("() => mb.asked && mb.answered && mb.answered - mb.asked").json_value() / 1000
