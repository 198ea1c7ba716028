"""On a phone, in the dark, behind a password; and a page that is wrong on purpose is caught."""

import time

import pytest
from chromium import Server, until, violations
from page_helpers import ROWS, TWEETS, shot

from moodbench.app.page import TABS

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("kind", ["phone", "dark"])
def test_it_is_whole_on_a_phone_and_in_the_dark(filled, browser, kind):
    context, recorder = browser((390, 844), phone=True) if kind == "phone" else browser(dark=True)
    page = context.new_page()
    for tab in TABS:
        filled.open(f"tab={tab.key}&track={TWEETS}&models=vader;MiniLM-L3", page)
        page.wait_for_selector(f"#tab-{tab.key}", state="visible")
        if tab.key in ("leaderboard", "compare", "speed"):
            page.wait_for_selector(".js-plotly-plot .main-svg", state="attached")
            page.wait_for_timeout(500)
        until(lambda: page.locator(".empty:visible").count() == 0, "no figure is still on its way")
        shot(filled, f"{kind}-{tab.key}", page)
        assert violations(page, filled.axe_js) == [], tab.title
        if kind == "phone":  # a page that is too wide is zoomed out, so that only innerWidth tells
            assert (
                page.evaluate("innerWidth") == 390 and page.evaluate("document.scrollingElement.scrollWidth") <= 390
            ), tab.title
    if kind == "phone":
        filled.open("", page)
        assert page.evaluate(f"Math.max(...[...document.querySelectorAll('{ROWS}')].map(r => r.offsetHeight))") < 150
        page.locator("#mb-leaderboard thead button[data-key=latency_p50_s]").tap()
        assert page.locator("#mb-leaderboard th.mb-latency_p50_s").first.get_attribute("aria-sort") == "ascending"
    else:
        assert page.evaluate("document.body.classList.contains('dark')")
    assert recorder.problems == []
    context.close()


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
        attempts = [
            page.request.post(f"{server.url}/login", form={"username": "reader", "password": "a"}) for _ in "123"
        ]
        assert {attempt.status for attempt in attempts} == {400}
        began = time.monotonic()
        assert page.request.post(f"{server.url}/login", form={"username": "a", "password": "a"}).status == 400
        assert time.monotonic() - began >= 1, "the fourth attempt waits"
        page.locator("input").first.fill("reader")
        page.locator("input[type=password]").fill("a long one")
        page.get_by_role("button", name="Login").click()
        page.wait_for_selector("#mb-notice .mb-empty")
    finally:
        context.close()
        server.stop()


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
