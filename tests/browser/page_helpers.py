"""What tests read off the page and do to it."""

from chromium import until, violations

from moodbench.hardware import hardware
from moodbench.report.leaderboard_view import view_leaderboard
from moodbench.store import Store

ROWS = "#mb-leaderboard tbody tr"
TWEETS = "icwsm-tweets (96 training texts)"
DRAWN = "path.point, .barlayer path, path.js-line"


def board(site, **options):
    return view_leaderboard(Store.open(site.store), hardware(), **options)


def order(page) -> list[str]:
    return page.eval_on_selector_all(ROWS, "rows => rows.map(r => r.dataset.name)")


def names(view, track=None) -> list[str]:
    return view.track(track or next(t for t in view.tracks if t.startswith("overall")))["name"].tolist()


def shot(site, name, page=None) -> None:
    (page or site.page).screenshot(path=site.shots / f"{name}.png", full_page=True)


def clean(site, page=None) -> None:
    assert violations(page or site.page, site.axe_js) == []


def drawn(page, elem) -> None:
    """The figure holds marks, bars or lines: one that only says why it is empty has none."""
    page.wait_for_selector(f"#{elem} .js-plotly-plot .main-svg", state="attached")
    until(lambda: page.locator(f"#{elem}").locator(DRAWN).count() > 0, f"something drawn in {elem}")


def scores(page) -> list[str]:
    return page.eval_on_selector_all(f"{ROWS} .mb-score > span:first-child", "cells => cells.map(c => c.textContent)")


def choose(page, elem, option) -> None:
    """Nothing; takes this option of a dropdown."""
    page.locator(f"#{elem} input").click()
    page.get_by_role("option", name=option, exact=True).click()


def headings(page) -> list[str]:
    return page.locator("#mb-leaderboard thead button").all_inner_texts()


def start_preset(page, name) -> None:
    page.get_by_role("button", name="Start a run").click()
    page.locator("#run-preset input").click()
    page.get_by_role("option", name=name).click()
    page.locator("#run-start").click()
