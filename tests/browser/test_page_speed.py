"""How long a visitor of a large store waits; prints seconds beside the load, asserts none.

uv run pytest -s -m performance tests/browser
"""

import os
import time

import pytest
from chromium import Server, address, until
from generated_store import generate

from moodbench.hardware import hardware
from moodbench.visualization.kept_results import results_of
from moodbench.visualization.page.shell import TABS

pytestmark = pytest.mark.performance

ROWS = "#mb-board tbody tr"
MOVES = 7


@pytest.mark.parametrize(
    ("models", "datasets", "seeds", "num_test"),
    [(60, 5, 5, 500), (400, 5, 5, 200)],
    ids=["60 contenders x 5 sets x 5 seeds", "10,000 trials"],
)
def test_a_large_store_is_opened_and_ranked_again(browser, tmp_path, monkeypatch, models, datasets, seeds, num_test):
    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    store = generate(tmp_path / "results", num_models=models, num_datasets=datasets, num_seeds=seeds, num_test=num_test)
    results_of(store, hardware(), in_store=True)  # as `moodbench compact` does
    began = time.monotonic()
    server = Server(["-m", "moodbench", "app", "--store", store.uri], tmp_path / "server")
    context, recorder = browser()
    try:
        server.wait(600)
        ready = time.monotonic() - began
        page = context.new_page()
        page.set_default_timeout(300_000)
        told = [f"server ready {ready:.1f} s"]
        waited = []
        for _ in range(4):
            waited.append(
                _seconds(
                    lambda: (page.goto(server.url, wait_until="commit"), page.wait_for_selector(ROWS, state="attached"))
                )
            )
        told.append(f"first page {waited[0]:.1f} s, warm pages {', '.join(f'{s:.1f}' for s in waited[1:])} s")
        assert page.locator(ROWS).count() == models
        page.wait_for_selector("#trade-off .js-plotly-plot .main-svg", state="attached")
        page.get_by_role("button", name="What matters to you?").click()
        page.locator("#w-accuracy input[type=range]").focus()
        moves = sorted(_change(page, lambda: page.keyboard.press("ArrowRight")) for _ in range(MOVES))
        told.append(f"slider {moves[MOVES // 2]:.2f} s ({moves[0]:.2f} to {moves[-1]:.2f})")
        box = page.locator("#search textarea, #search input").first
        told.append(f"search {_change(page, lambda: box.fill('synthetic-1')):.2f} s")
        box.fill("")
        until(lambda: page.locator(ROWS).count() == models, "all rows again", 300)
        page.get_by_role("button", name="Filters").click()
        told.append(f"filter {_change(page, lambda: page.get_by_label('lora', exact=True).check()):.2f} s")
        for tab in TABS[1:]:

            def opened(tab=tab):
                page.get_by_role("tab", name=tab.title).click()
                until(lambda: f"tab={tab.key}" in address(page), f"{tab.title} is filled", 300)

            told.append(f"{tab.title} {_seconds(opened):.1f} s")
        loads = ", ".join(f"{x:.1f}" for x in os.getloadavg())
        print(f"\n{models} contenders, {models * datasets * seeds:,} trials: {'; '.join(told)}; load {loads}")
        assert recorder.problems == []
    finally:
        context.close()
        server.stop()


def _seconds(act) -> float:
    start = time.monotonic()
    act()
    return time.monotonic() - start


def _change(page, act) -> float:
    """Seconds until the table is another one after `act`."""
    before = page.locator("#mb-board").inner_html()
    return _seconds(
        lambda: (act(), until(lambda: page.locator("#mb-board").inner_html() != before, "another table", 300))
    )
