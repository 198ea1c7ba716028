"""A visitor's story in a real browser, on one page in this order: an empty store, a run in progress, a damaged file."""

import os
import subprocess
import sys

import psutil
import pytest
from chromium import until
from page_helpers import board, clean, names, order, shot, start_preset

from moodbench.analysis.event_log import current_runs
from moodbench.store import Store

pytestmark = pytest.mark.browser


def test_the_rules_of_axe_are_at_hand(why_no_axe):
    """The only test that is skipped without them; the others then check all but the rules."""
    if why_no_axe:
        pytest.skip(why_no_axe)


def test_an_empty_store_says_how_to_start(site):
    site.open()
    assert "moodbench run quickstart" in site.page.locator("#mb-notice").inner_text()
    assert not site.store.exists(), "reading creates nothing"
    shot(site, "empty")
    clean(site)


def test_a_run_is_watched_while_it_goes_on(site):
    site.open("tab=live")
    page = site.page
    assert "No run has written" in page.locator("#mb-live").inner_text()
    command = [
        sys.executable,
        "-m",
        "moodbench",
        "run",
        "tweets",
        "--config",
        str(site.config),
        "--store",
        str(site.store),
    ]
    seen, looked = set(), False
    with (site.store.parent / "run.log").open("wb") as log:
        run = subprocess.Popen([*command, "--executor", "inline"], stdout=log, stderr=subprocess.STDOUT)
        while run.poll() is None:
            text = page.locator("#mb-live").inner_text()
            if not looked and "running" in text and " of " in text.partition("MiniLM-L3")[2]:
                shot(site, "live")
                clean(site)
                looked = True
            seen.add(text)
            page.wait_for_timeout(250)
    assert run.returncode == 0, (site.store.parent / "run.log").read_text()[-3000:]
    assert len(seen) > 3, "it fills itself"
    assert any("running" in t and "of 6 jobs ended" in t for t in seen)
    assert any("MiniLM-L3 · icwsm-tweets · seed 0" in t for t in seen)
    assert looked, "its steps were seen while they were taken, and looked at"
    (ended,) = current_runs(Store.open(site.store))
    until(lambda: ended_wholly(page, ended.run_id), "the end of this run is shown")


def ended_wholly(page, run_id) -> bool:
    """Whether Live shows that this run has ended with all of its six jobs."""
    text = page.locator("#mb-live").inner_text()
    return f"Run {run_id}: ended" in text and "6 of 6 jobs ended" in text.partition(run_id)[2].partition("Run ")[0]


def test_a_run_is_started_from_the_page(site):
    page = site.open("tab=live")
    page.get_by_role("button", name="Start a run").click()
    page.locator("#run-start").click()
    refusal = page.locator("#mb-refusal")
    until(lambda: "Nothing to run" in refusal.inner_text(), "a request for nothing is refused")
    page.wait_for_timeout(5000)  # Live is filled twice
    assert "Nothing to run" in refusal.inner_text(), "a refusal stays"
    clean(site)
    page.locator("#run-preset input").click()
    page.get_by_role("option", name="both", exact=True).click()
    until(lambda: refusal.inner_text() == "", "until the form changes")
    site.open("tab=live")
    start_preset(page, "products")
    until(lambda: "Started here: running" in page.locator("#mb-runner").inner_text(), "it is under way")
    said = until(lambda: text if "Run " in (text := page.locator("#mb-runner").inner_text()) else "", "its name")
    page.locator("#run-start").click()
    until(lambda: "already in progress" in page.locator("#mb-refusal").inner_text(), "one at a time")
    until(lambda: "Started here: ended" in page.locator("#mb-runner").inner_text(), "its end", 300)
    started = current_runs(Store.open(site.store))[0].run_id
    assert started in said, "the run that began last is the one that was started"
    until(lambda: ended_wholly(page, started), "its jobs")
    assert "9 records were committed" in page.locator("#mb-runner").inner_text(), (
        "three fits, evaluations, measurements"
    )
    shot(site, "started")
    page.get_by_role("tab", name="Method").click()
    page.wait_for_selector("#mb-method table", state="visible")
    page.wait_for_timeout(2500)  # what was under way is answered
    before = site.recorder.num_requests
    page.wait_for_timeout(4500)
    assert site.recorder.num_requests == before, "nothing is asked for any more once Live is left"


def test_a_run_is_cancelled_from_the_page(site):
    page = site.open("tab=live")
    start_preset(page, "many")
    until(lambda: "of 20 jobs ended" in page.locator("#mb-live").inner_text(), "it has begun", 90)
    page.locator("#run-cancel").click()
    until(lambda: "Started here: cancelled" in page.locator("#mb-runner").inner_text(), "it has left", 60)
    until(lambda: ": cancelled" in page.locator("#mb-live h3").first.inner_text(), "its log says so")
    done = int(page.locator("#mb-live p").first.inner_text().split(" of ")[0])
    assert done < 20
    own = psutil.Process(site.server.process.pid).children(recursive=True)
    assert [p.cmdline() for p in own if "moodbench.worker" in " ".join(p.cmdline())] == [], "nothing runs on"


def test_a_damaged_store_says_which_file_and_what_to_do(site):
    damaged = next((site.store / "evaluations").rglob("*.parquet"))
    whole = damaged.read_bytes()
    os.truncate(damaged, 100)
    page = site.page

    def reopened():
        page.wait_for_timeout(1100)  # a store is looked at again after two seconds, and read in the background
        site.open()
        return page.locator("#mb-notice").inner_text()

    try:
        text = until(reopened, "the damage is reported", 60)
        assert damaged.name in text and "verify --set-aside" in text and "Traceback" not in text
        shot(site, "damaged")
        clean(site)
    finally:
        damaged.write_bytes(whole)
    until(lambda: not reopened() and order(page) == names(board(site)), "it recovers without being started again", 60)
