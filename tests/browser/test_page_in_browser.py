"""What a visitor sees and does, in a real browser, from an empty store over a run in progress to a damaged file.

The tests stand in the order of that story and share one server and one browser.
"""

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pandas as pd
import psutil
import pytest
from chromium import Server, address, until, violations

from moodbench.comparison.composite import Weights
from moodbench.hardware import hardware
from moodbench.serving.classifier import open_classifier
from moodbench.store import Store
from moodbench.visualization.board_view import view_board
from moodbench.visualization.comparison_view import compare_models, sentence
from moodbench.visualization.exporting import board_bytes
from moodbench.visualization.formatting import COLUMNS, cells
from moodbench.visualization.page.shell import TABS

pytestmark = pytest.mark.browser

ROWS = "#mb-board tbody tr"
TWEETS = "icwsm-tweets (96 training texts)"


def board(site, **options):
    return view_board(Store.open(site.store), hardware(), **options)


def order(page) -> list[str]:
    return page.eval_on_selector_all(ROWS, "rows => rows.map(r => r.dataset.name)")


def names(view, track=None) -> list[str]:
    return view.track(track or next(t for t in view.tracks if t.startswith("overall")))["name"].tolist()


def shot(site, name, page=None) -> None:
    (page or site.page).screenshot(path=site.shots / f"{name}.png", full_page=True)


def clean(site, page=None) -> None:
    assert violations(page or site.page, site.axe_js) == []


DRAWN = "path.point, .barlayer path, path.js-line"


def drawn(page, elem) -> None:
    """The figure holds marks, bars or lines: one that only says why it is empty has none."""
    page.wait_for_selector(f"#{elem} .js-plotly-plot .main-svg", state="attached")
    until(lambda: page.locator(f"#{elem}").locator(DRAWN).count() > 0, f"something drawn in {elem}")


def test_the_rules_of_axe_are_at_hand(why_no_axe):
    """The only test that is skipped without them; the others then check all but the rules."""
    if why_no_axe:
        pytest.skip(why_no_axe)


def test_an_empty_store_says_how_to_start(site):
    site.open()
    assert "moodbench run quickstart" in site.page.locator("#mb-notice").inner_text()
    assert not site.store.exists(), "looking creates nothing"
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
    until(lambda: "6 of 6 jobs ended" in page.locator("#mb-live").inner_text(), "the end is shown")


def start_preset(page, name) -> None:
    page.get_by_role("button", name="Start a run").click()
    page.locator("#run-preset input").click()
    page.get_by_role("option", name=name).click()
    page.locator("#run-start").click()


def test_a_run_is_started_from_the_page(site):
    page = site.open("tab=live")
    page.get_by_role("button", name="Start a run").click()
    page.locator("#run-start").click()
    until(lambda: "Nothing to run" in page.locator("#mb-queue").inner_text(), "a request for nothing is refused")
    clean(site)
    site.open("tab=live")
    start_preset(page, "products")
    until(lambda: "Started here: running" in page.locator("#mb-queue").inner_text(), "it is under way")
    page.locator("#run-start").click()
    until(lambda: "under way already" in page.locator("#mb-queue").inner_text(), "one at a time")
    until(lambda: "Started here: ended" in page.locator("#mb-queue").inner_text(), "its end", 300)
    until(lambda: "6 of 6 jobs ended" in page.locator("#mb-live").inner_text(), "its jobs")
    assert "9 records were committed" in page.locator("#mb-queue").inner_text(), "three fits, evaluations, measurements"
    shot(site, "started")
    page.get_by_role("tab", name="Method").click()
    page.wait_for_selector("#mb-method table", state="visible")
    page.wait_for_timeout(2500)  # what was under way is answered
    before = site.recorder.num_requests
    page.wait_for_timeout(4500)
    assert site.recorder.num_requests == before, "nothing is asked for any more once Live is left"


def test_the_board_shows_what_the_terminal_shows(site):
    page = site.open()
    view = board(site)
    overall = view.tracks[-1]
    until(lambda: site.open() and order(page) == names(view), "what the last run wrote is read", 60)
    expected = cells(view.track(overall)).to_numpy().tolist()
    shown = page.eval_on_selector_all(
        ROWS,
        "rows => rows.map(r => [...r.cells].map(c => (c.querySelector('span:not(.mb-mark)') || c).textContent.trim()))",
    )
    assert [row[2:] for row in shown] == [row[2:] for row in expected]
    assert [h for h in page.locator("#mb-board thead button").all_inner_texts()] == [c.heading for c in COLUMNS]
    assert page.locator("#mb-answer").inner_text().startswith(names(view)[0])
    drawn(page, "trade-off")
    drawn(page, "by-dataset")
    page.wait_for_timeout(400)
    shot(site, "leaderboard")
    clean(site)


def test_a_slider_ranks_the_table_again_and_the_address_follows(site):
    page = site.open()
    plain = order(page), scores(page)
    page.get_by_role("button", name="What matters to you?").click()
    for criterion in ("f1", "throughput", "latency"):
        page.locator(f"#w-{criterion} input[type=range]").focus()
        page.keyboard.press("Home")
    until(lambda: all(f"{c}=0" in address(page) for c in ("f1", "throughput", "latency")), "the address")
    expected = shown_under(site, Weights(1, 0, 0, 0))
    until(lambda: (order(page), scores(page)) == expected, f"{plain} becomes {expected}")
    assert expected != plain, "otherwise this shows nothing"
    for _ in range(12):  # a burst ends on its last value
        page.keyboard.press("ArrowRight")
    until(lambda: "latency=60" in address(page), "the last move of a burst counts")
    expected = shown_under(site, Weights(1 / 3, 0, 0, 1 - 1 / 3))
    until(lambda: (order(page), scores(page)) == expected, "the order and scores of the last move")
    clean(site)


def scores(page) -> list[str]:
    return page.eval_on_selector_all(f"{ROWS} .mb-score > span:first-child", "cells => cells.map(c => c.textContent)")


def shown_under(site, weights) -> tuple[list[str], list[str]]:
    """Names and scores of all data sets together, in order."""
    view = board(site, weights=weights)
    return names(view), cells(view.track(view.tracks[-1]))["Score"].tolist()


def test_a_preset_sets_the_weights(site):
    page = site.open()
    page.get_by_role("button", name="Most accurate").click()
    expected = names(board(site, weights=Weights(0.5, 0.5, 0, 0)))
    until(lambda: order(page) == expected and "throughput=0" in address(page), "the order by accuracy and F1")
    page.get_by_role("button", name="Balanced").click()
    until(
        lambda: order(page) == names(board(site)) and "throughput" not in address(page), "the plain order and address"
    )


def test_search_and_filters_hide_rows(site):
    page = site.open()
    box = page.locator("#search textarea, #search input").first
    box.press_sequentially("vad;MINI", delay=15)
    until(lambda: set(order(page)) == {"vader", "MiniLM-L3"}, "two rows are left")
    box.fill("nothing-like-it")
    until(lambda: "No contender matches" in page.locator("#mb-board").inner_text(), "the way out is told")
    shot(site, "no-match")
    box.fill("")
    until(lambda: len(order(page)) == 3, "all rows again")
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("lora").check()
    until(lambda: order(page) == ["MiniLM-L3"] and "methods=lora" in address(page), "one method")


def test_an_address_shows_the_same_view_again(site):
    page = site.open(f"track={TWEETS}&accuracy=100&f1=0&throughput=0&latency=0&search=a;i&models=vader;tfidf-logreg")
    seen = order(page), address(page), page.locator("#mb-answer").inner_text()
    assert len(seen[0]) >= 2 and "track=icwsm-tweets" in seen[1] and "models=vader%3Btfidf-logreg" in seen[1]
    again = page.context.new_page()
    site.open(seen[1].split("?")[1], again)
    assert (order(again), address(again), again.locator("#mb-answer").inner_text()) == seen
    again.get_by_role("button", name="What matters to you?").click()
    assert again.locator("#w-accuracy input[type=number]").input_value() == "100"
    again.close()
    hostile = "accuracy=nan&f1=1e999&models=%3Cscript%3E&search=%3Cimg%20src=x%20onerror=alert(1)%3E&sort=%22%5D&tab=x"
    site.open(hostile)
    assert "No contender matches" in page.locator("#mb-board").inner_text()
    assert page.locator("#mb-board img, #mb-answer img").count() == 0


def test_headings_sort_and_what_is_missing_stays_last(site):
    page = site.open()
    page.locator("#mb-board thead button[data-key=latency_p50_s]").click()
    values = [
        float(v) if v else None
        for v in page.eval_on_selector_all(f"{ROWS} .mb-latency_p50_s", "c => c.map(x => x.dataset.v)")
    ]
    assert values == sorted(values) and "sort=latency_p50_s" in address(page)
    heading = page.locator("#mb-board th.mb-latency_p50_s").first
    assert heading.get_attribute("aria-sort") == "ascending"
    page.locator("#mb-board thead button[data-key=latency_p50_s]").click()
    assert heading.get_attribute("aria-sort") == "descending" and "sort=-latency_p50_s" in address(page)
    slow_first = order(page)
    page.get_by_role("button", name="Fastest").click()  # rendered again by the server
    until(lambda: "throughput=50" in address(page), "new weights")
    assert order(page) == slow_first and "sort=-latency_p50_s" in address(page), "the order outlives it"
    site.open("sort=-accuracy")
    shares = page.eval_on_selector_all(f"{ROWS} .mb-accuracy", "c => c.map(x => Number(x.dataset.v))")
    assert shares == sorted(shares, reverse=True), "a link sorts too"


def test_limits_pick_a_model_and_the_nearest_miss_is_named(site):
    page = site.open(f"tab=which&track={TWEETS}")
    text = page.locator("#mb-pick").inner_text
    until(lambda: "Use" in text(), "a pick")
    rows = board(site).track(TWEETS).set_index("name")
    page.get_by_label("Memory, MiB at most").fill("300")
    page.keyboard.press("Tab")
    until(lambda: "max_memory_mib=300" in address(page), "the limit is in the address")
    light = rows[rows["memory_peak_batch1_bytes"] <= 300 * 2**20]
    until(lambda: f"{len(light)} of {len(rows)} contenders are within" in text(), "heavier ones are out")
    assert any(f"--model {i}" in text() for i in [*light["fit_ids"].explode(), *light["model"]]), (
        "the command to use it"
    )
    shot(site, "which")
    clean(site)
    page.get_by_label("Time to label, ms at most").fill("0.0001")
    page.keyboard.press("Tab")
    until(lambda: "No measured contender keeps to all limits" in text() and "Nearest" in text(), "the nearest miss")
    shot(site, "which-none")
    clean(site)


def test_two_models_are_compared_as_the_command_does(site):
    page = site.open(f"tab=compare&track={TWEETS}")
    page.locator("#models input").click()
    page.get_by_role("option", name="vader").click()
    page.locator("#models input").click()
    page.get_by_role("option", name="tfidf-logreg").click()
    page.keyboard.press("Escape")
    until(lambda: "models=vader%3Btfidf-logreg" in address(page), "both are pinned")
    (found,) = compare_models(Store.open(site.store), "vader", "tfidf-logreg", "icwsm-tweets")
    words = sentence("vader", "tfidf-logreg", found.track, found.difference)
    until(
        lambda: words in page.locator("#mb-pairs").inner_text() or words in page.locator("#mb-pairs").text_content(),
        words,
    )
    drawn(page, "reliability")
    differing = page.locator("#mb-differences table").last.locator("tbody tr")
    assert 1 <= differing.count() <= 20
    shown = differing.first.locator("th").text_content()
    store = Store.open(site.store)
    revision = store.records("fits").query("dataset == 'icwsm-tweets'")["dataset_revision"].iloc[0]
    assert shown in set(store.examples("icwsm-tweets", revision)["text"])
    page.wait_for_timeout(300)
    shot(site, "compare")
    clean(site)


def test_speed_and_training_draw_their_figures(site):
    page = site.open(f"tab=speed&track={TWEETS}")
    for figure in ("latency", "batches", "cold-start", "memory"):
        drawn(page, figure)
    assert page.locator("#mb-verdicts tbody tr").count() == 3
    page.wait_for_timeout(300)
    shot(site, "speed")
    clean(site)
    page.get_by_role("tab", name="Training").click()
    drawn(page, "curves")
    until(lambda: "MiniLM-L3" in page.locator("#mb-matrix").inner_text(), "the matrix of fits")
    assert "not run" not in page.locator("#mb-matrix").inner_text(), "all three were run on both data sets"
    assert page.locator("#curves .scatterlayer .trace").count() == 1, "one fit learned by steps"
    page.wait_for_timeout(300)
    shot(site, "training")
    clean(site)


def test_a_text_is_labelled_side_by_side(site):
    page = site.open(f"tab=try&track={TWEETS}&models=vader;MiniLM-L3")
    page.get_by_label("Your text").fill("What a wonderful day, I love it!")
    page.get_by_role("button", name="Label it").click()
    page.wait_for_selector("#mb-answers tbody tr", timeout=120_000)  # torch is loaded first
    rows = page.locator("#mb-answers tbody tr").all_inner_texts()
    assert len(rows) == 2 and rows[0].startswith("vader") and rows[1].startswith("MiniLM-L3")
    fit = board(site).track(TWEETS).set_index("name").loc["vader", "fit_ids"][0]
    (expected,) = open_classifier(Store.open(site.store), fit).predict(["What a wonderful day, I love it!"])
    assert expected.label in rows[0] and f"{100 * expected.probability:.1f} %" in rows[0] and " ms" in rows[0]
    assert "wonderful" not in address(page), "a text is nobody else's business"
    shot(site, "try")
    clean(site)
    page.get_by_label("Your text").fill("  ")
    page.get_by_role("button", name="Label it").click()
    until(lambda: "Write a text first" in page.locator("#mb-answers").inner_text(), "an empty text")


def test_the_method_names_what_the_records_say(site):
    page = site.open("tab=method")
    text = page.locator("#mb-method").inner_text()
    fits = Store.open(site.store).records("fits")
    assert set(fits["dataset_revision"]) <= set(text.replace(";", " ").split())
    assert "learning_rate" in text and "50 requests each" in text
    shot(site, "method")
    clean(site)


def test_files_are_fetched_and_read_back(site):
    page = site.open("tab=data&search=vader")
    fetched = {}
    for key in ("view-csv", "view-parquet", "all-csv", "all-parquet"):
        with page.expect_download() as download:
            page.locator(f"#get-{key}").click()
        fetched[key] = Path(download.value.path()).read_bytes()
    view = board(site)
    whole = pd.read_csv(BytesIO(board_bytes(view, "csv")))
    mine = whole[(whole["name"] == "vader") & whole["track"].str.startswith("overall")]
    pd.testing.assert_frame_equal(
        pd.read_csv(BytesIO(fetched["view-csv"])),
        mine.reset_index(drop=True),
        check_dtype=False,
    )
    scores = pd.read_parquet(BytesIO(fetched["view-parquet"]))["score"].tolist()
    assert scores == pytest.approx(mine["score"].tolist(), rel=1e-14), (
        "what is read of a CSV may differ in its last bit"
    )
    fits = set(Store.open(site.store).records("evaluations")["fit_id"])
    assert set(pd.read_csv(BytesIO(fetched["all-csv"]))["fit_id"]) == fits
    assert set(pd.read_parquet(BytesIO(fetched["all-parquet"]))["fit_id"]) == fits
    shot(site, "data")
    clean(site)
    link = page.get_by_role("link", name="Link to this view").get_attribute("href")
    assert link == "?" + address(page).split("?")[1]


@pytest.mark.parametrize("kind", ["phone", "dark"])
def test_it_is_whole_on_a_phone_and_in_the_dark(site, browser, kind):
    context, recorder = browser((390, 844), phone=True) if kind == "phone" else browser(dark=True)
    page = context.new_page()
    for tab in TABS:
        site.open(f"tab={tab.key}&track={TWEETS}&models=vader;MiniLM-L3", page)
        page.wait_for_selector(f"#tab-{tab.key}", state="visible")
        if tab.key in ("leaderboard", "compare", "speed"):
            page.wait_for_selector(".js-plotly-plot .main-svg", state="attached")
            page.wait_for_timeout(500)
        until(lambda: page.locator(".empty:visible").count() == 0, "no figure is still on its way")
        shot(site, f"{kind}-{tab.key}", page)
        assert violations(page, site.axe_js) == [], tab.title
        if kind == "phone":  # a page that is too wide is zoomed out, so that only innerWidth tells
            assert (
                page.evaluate("innerWidth") == 390 and page.evaluate("document.scrollingElement.scrollWidth") <= 390
            ), tab.title
    if kind == "phone":
        site.open("", page)
        assert page.evaluate(f"Math.max(...[...document.querySelectorAll('{ROWS}')].map(r => r.offsetHeight))") < 150
        page.locator("#mb-board thead button[data-key=latency_p50_s]").tap()
        assert page.locator("#mb-board th.mb-latency_p50_s").first.get_attribute("aria-sort") == "ascending"
    else:
        assert page.evaluate("document.body.classList.contains('dark')")
    assert recorder.problems == []
    context.close()


def test_the_keyboard_reaches_and_works_everything_on_the_board(site):
    page = site.open()
    page.locator("#mb-board thead button").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#mb-board th.mb-name").first.get_attribute("aria-sort") == "ascending"
    page.get_by_role("tab", name="Leaderboard").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(lambda: page.get_by_role("tab", name="Which model?").get_attribute("aria-selected") == "true", "the next tab")


def test_a_run_is_cancelled_from_the_page(site):
    page = site.open("tab=live")
    start_preset(page, "many")
    until(lambda: "of 20 jobs ended" in page.locator("#mb-live").inner_text(), "it has begun", 90)
    page.locator("#run-cancel").click()
    until(lambda: "Started here: cancelled" in page.locator("#mb-queue").inner_text(), "it has left", 60)
    until(lambda: ": cancelled" in page.locator("#mb-live h3").first.inner_text(), "its log says so")
    done = int(page.locator("#mb-live p").first.inner_text().split(" of ")[0])
    assert done < 20
    own = psutil.Process(site.server.process.pid).children(recursive=True)
    assert [p.cmdline() for p in own if "moodbench.worker" in " ".join(p.cmdline())] == [], "nothing runs on"


def test_a_page_with_a_name_and_a_password_shows_nothing_without_them(browser, tmp_path, axe_js):
    command = ["-m", "moodbench", "app", "--store", str(tmp_path / "results"), "--user", "reader"]
    server = Server(command, tmp_path / "server", {"MOODBENCH_APP_PASSWORD": "a long one"})
    context, _ = browser()
    try:
        server.wait()
        page = context.new_page()
        page.goto(server.url, wait_until="commit")
        page.wait_for_selector("input[type=password]")
        assert "No results yet" not in page.locator("body").inner_text()
        answer = page.request.post(f"{server.url}/gradio_api/run/predict", data={"data": [], "fn_index": 0})
        assert answer.status == 401, "its callbacks ask as well"
        page.locator("input").first.fill("reader")
        page.locator("input[type=password]").fill("a long one")
        page.get_by_role("button", name="Login").click()
        page.wait_for_selector("#mb-notice .mb-empty")
    finally:
        context.close()
        server.stop()


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
        text = until(reopened, "the damage is told", 60)
        assert damaged.name in text and "verify --set-aside" in text and "Traceback" not in text
        shot(site, "damaged")
        clean(site)
    finally:
        damaged.write_bytes(whole)
    until(lambda: not reopened() and order(page) == names(board(site)), "it recovers without being started again", 60)


def test_nothing_went_wrong_and_nothing_went_out(site):
    assert site.recorder.problems == []
    assert site.server.egress == []
    log = site.server.log.read_text()
    assert "Traceback" not in log and "Warning" not in log, log[-2000:]


WRONG = """
import argparse, gradio as gr
parser = argparse.ArgumentParser(); parser.add_argument("--port", type=int)
with gr.Blocks() as page:
    gr.Markdown("wrong on purpose", elem_id="wrong"); gr.HTML("<button id=nameless></button><img src='/gone.png'>")
page.launch(server_name="127.0.0.1", server_port=parser.parse_args().port, quiet=True,
            head='<link href="https://cdn.jsdelivr.net/npm/x@1/x.css" rel="stylesheet">'
                 '<style>body::after {{content: ""; display: block; width: 900px; height: 9px}}</style>'.format())
"""


def test_a_page_that_is_wrong_on_purpose_is_caught(browser, axe_js, tmp_path):
    (tmp_path / "wrong.py").write_text(WRONG)
    server = Server([str(tmp_path / "wrong.py")], tmp_path / "server", {"GRADIO_ANALYTICS_ENABLED": "True"})
    context, recorder = browser()
    try:
        server.wait()
        page = context.new_page()
        page.goto(server.url, wait_until="commit")
        page.wait_for_selector("#wrong", state="attached")
        until(lambda: recorder.external and server.egress, "a request from the browser and one from the server")
        assert axe_js is None or any(line.startswith("button-name") for line in violations(page, axe_js))
        assert any("jsdelivr" in url for url in recorder.external) and recorder.console
        until(lambda: any("404" in what for what in recorder.failed), "a request that failed")
        phone, _ = browser((390, 844), phone=True)
        small = phone.new_page()
        small.goto(server.url, wait_until="commit")
        small.wait_for_selector("#wrong", state="attached")
        until(
            lambda: small.evaluate("innerWidth") > 390 or small.evaluate("document.scrollingElement.scrollWidth") > 390,
            "a page too wide for a phone",
        )
        phone.close()
    finally:
        context.close()
        server.stop()
