"""How long a visitor of a large store waits; prints seconds beside the load, asserts none.

uv run pytest -s -m performance tests/browser
"""

import os
import time

import pytest
from chromium import Server, until
from generated_store import generate

pytestmark = pytest.mark.performance

ROWS = "#mb-board tbody tr"
MOVES = 7


@pytest.mark.parametrize(
    ("models", "datasets", "seeds", "predictions"),
    [(60, 5, 5, True), (400, 5, 5, False)],
    ids=["60 contenders x 5 sets x 5 seeds", "10,000 trials"],
)
def test_a_large_store_is_opened_and_ranked_again(browser, tmp_path, models, datasets, seeds, predictions):
    store = generate(
        tmp_path / "results", num_models=models, num_datasets=datasets, num_seeds=seeds, predictions=predictions
    )
    began = time.monotonic()
    server = Server(["-m", "moodbench", "app", "--store", store.uri], tmp_path / "server")
    context, recorder = browser()
    try:
        server.wait(300)
        ready = time.monotonic() - began
        page = context.new_page()
        waited = []
        for _ in range(4):
            start = time.monotonic()
            page.goto(server.url, wait_until="commit")
            page.wait_for_selector(ROWS, state="attached", timeout=120_000)
            waited.append(time.monotonic() - start)
        assert page.locator(ROWS).count() == models
        page.wait_for_selector("#trade-off .js-plotly-plot .main-svg", state="attached", timeout=60_000)
        page.get_by_role("button", name="What matters to you?").click()
        slider = page.locator("#w-accuracy input[type=range]")
        slider.focus()
        moves = []
        for _ in range(MOVES):
            before = page.locator("#mb-board").inner_html()
            start = time.monotonic()
            page.keyboard.press("ArrowRight")
            until(lambda before=before: page.locator("#mb-board").inner_html() != before, "a table ranked again", 30)
            moves.append(time.monotonic() - start)
        print(
            f"\n{models} contenders, {models * datasets * seeds:,} trials: server ready {ready:.1f} s; first page {waited[0]:.1f} s; "
            f"warm pages {', '.join(f'{s:.1f}' for s in waited[1:])} s; slider to table, median of {MOVES}: "
            f"{sorted(moves)[MOVES // 2]:.2f} s ({min(moves):.2f} to {max(moves):.2f}); load {os.getloadavg()[0]:.1f}"
        )
        assert recorder.problems == []
    finally:
        context.close()
        server.stop()
