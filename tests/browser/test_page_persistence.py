"""What lasts in a real browser: a fold that a visitor has opened, and the page after an address that makes no sense."""

import json
from datetime import UTC, datetime

import pytest
from chromium import address, until
from conftest import opened
from page_helpers import choose, drawn, headings

pytestmark = pytest.mark.browser


def test_a_strange_address_leaves_the_controls_alive(filled):
    page = filled.open("against=bogus&columns=bogus;mcc&max_params=33&models=bogus")
    assert "MCC" in headings(page) and address(page).endswith("?columns=mcc")
    drawn(page, "trade-off")
    choose(page, "against", "memory of the process, MiB")
    until(lambda: "against=memory_peak_batch1_bytes" in address(page), "a control is answered")


def test_a_fold_of_live_stays_open_while_the_page_fills_itself(browser, axe_js, shots, config, tmp_path):
    log = tmp_path / "results" / "events" / "20260101T120000-aa.jsonl"
    log.parent.mkdir(parents=True)
    trial, now = "toy · icwsm-tweets · seed 0", datetime.now(UTC).isoformat()
    events = [{"event": "run_started", "num_jobs": 2}, {"event": "started", "trial": trial, "phase": "fit"},
              {"event": "committed", "trial": trial, "phase": "fit"}]  # fmt: skip
    log.write_text("".join(json.dumps({"at": now, **event}) + "\n" for event in events))
    with opened(browser, axe_js, shots, config, tmp_path / "results") as site:
        page = site.open("tab=live")
        said = page.locator("#mb-live h3 ~ p").last.inner_text
        fold = page.locator("#mb-live details")
        assert fold.get_attribute("open") is None, "closed until it is opened"
        for opens in (True, False):
            page.locator("#mb-live summary").click()
            for _ in range(2):
                before = said()
                until(lambda before=before: said() != before, "it fills itself: the time so far goes on", 30)
                assert (fold.get_attribute("open") is not None) == opens
