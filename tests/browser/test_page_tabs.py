"""The other tabs in a real browser: a pick, a comparison, figures, a text, files."""

from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from chromium import address, until
from page_helpers import TWEETS, board, clean, drawn, shot

from moodbench.analysis.pairwise import compare_models
from moodbench.report.files import leaderboard_bytes
from moodbench.report.tables import pair_sentence
from moodbench.serving.classifier import open_classifier
from moodbench.store import Store

pytestmark = pytest.mark.browser


def test_limits_are_in_the_address_and_come_back_from_it(filled):
    page = filled.open(f"tab=which&track={TWEETS}")
    limits = {"Maximum latency, ms": "5000", "Maximum memory, MiB": "4000", "Minimum accuracy, %": "12.5"}
    for label, value in limits.items():
        page.get_by_label(label).fill(value)
        page.keyboard.press("Tab")
    until(lambda: all(f"={value}" in address(page) for value in limits.values()), "all three limits are in the address")
    seen = page.locator("#mb-pick").inner_text(), address(page)
    again = page.context.new_page()
    filled.open(seen[1].split("?")[1], again)
    assert (again.locator("#mb-pick").inner_text(), address(again)) == seen
    assert [again.get_by_label(label).input_value() for label in limits] == list(limits.values())
    again.close()


def test_limits_pick_a_model_and_the_nearest_miss_is_named(filled):
    page = filled.open(f"tab=which&track={TWEETS}")
    text = page.locator("#mb-pick").inner_text
    until(lambda: "Use" in text(), "a pick")
    rows = board(filled).track(TWEETS).set_index("name")
    rows = rows[~rows["trivial"].astype(bool)]
    page.get_by_label("Maximum memory, MiB").fill("300")
    page.keyboard.press("Tab")
    until(lambda: "max_memory_mib=300" in address(page), "the limit is in the address")
    light = rows[rows["memory_peak_batch1_bytes"] <= 300 * 2**20]
    until(lambda: f"{len(light)} of {len(rows)} entries are within" in text(), "heavier ones are out")
    assert any(f"--model {i}" in text() for i in [*light["fit_ids"].explode(), *light["model"]]), (
        "the command to use it"
    )
    shot(filled, "which")
    clean(filled)
    page.get_by_label("Maximum latency, ms").fill("0.0001")
    page.keyboard.press("Tab")
    until(lambda: "No measured entry meets all limits" in text() and "Nearest" in text(), "the nearest miss")
    shot(filled, "which-none")
    clean(filled)


def test_two_models_are_compared_as_the_command_does(filled):
    page = filled.open(f"tab=compare&track={TWEETS}")
    page.locator("#models input").click()
    page.get_by_role("option", name="vader").click()
    page.locator("#models input").click()
    page.get_by_role("option", name="tfidf-logreg").click()
    page.keyboard.press("Escape")
    until(lambda: "models=vader%3Btfidf-logreg" in address(page), "both are pinned")
    (found,) = compare_models(Store.open(filled.store), "vader", "tfidf-logreg", "icwsm-tweets")
    words = pair_sentence("vader", "tfidf-logreg", found.track, found.difference)
    until(
        lambda: words in page.locator("#mb-pairs").inner_text() or words in page.locator("#mb-pairs").text_content(),
        words,
    )
    drawn(page, "reliability")
    differing = page.locator("#mb-differences table").last.locator("tbody tr")
    assert 1 <= differing.count() <= 20
    shown = differing.first.locator("th").text_content()
    store = Store.open(filled.store)
    revision = store.records("fits").query("dataset == 'icwsm-tweets'")["dataset_revision"].iloc[0]
    assert shown in set(store.examples("icwsm-tweets", revision)["text"])
    page.wait_for_timeout(300)
    shot(filled, "compare")
    clean(filled)


def test_speed_and_training_draw_their_figures(filled):
    page = filled.open(f"tab=speed&track={TWEETS}")
    for figure in ("latency", "batches", "cold-start", "memory"):
        drawn(page, figure)
    assert page.locator("#mb-verdicts tbody tr").count() == 3
    page.wait_for_timeout(300)
    shot(filled, "speed")
    clean(filled)
    page.get_by_role("tab", name="Training").click()
    drawn(page, "curves")
    until(lambda: "MiniLM-L3" in page.locator("#mb-matrix").inner_text(), "the matrix of fits")
    assert "not run" not in page.locator("#mb-matrix").inner_text(), "all three were run on both datasets"
    assert page.locator("#curves .scatterlayer .trace").count() == 1, "one fit learned by steps"
    page.wait_for_timeout(300)
    shot(filled, "training")
    clean(filled)


def test_a_text_is_labelled_side_by_side(filled):
    page = filled.open(f"tab=try&track={TWEETS}&models=vader;MiniLM-L3")
    page.get_by_label("Your text").fill("What a wonderful day, I love it!")
    page.get_by_role("button", name="Label it").click()
    page.wait_for_selector("#mb-answers tbody tr", timeout=120_000)  # torch is loaded first
    rows = page.locator("#mb-answers tbody tr").all_inner_texts()
    assert len(rows) == 2 and rows[0].startswith("vader") and rows[1].startswith("MiniLM-L3")
    fit = board(filled).track(TWEETS).set_index("name").loc["vader", "fit_ids"][0]
    (expected,) = open_classifier(Store.open(filled.store), fit).predict(["What a wonderful day, I love it!"])
    assert expected.label in rows[0] and f"{100 * expected.probability:.1f} %" in rows[0] and " ms" in rows[0]
    assert "wonderful" not in address(page), "a text is nobody else's business"
    shot(filled, "try")
    clean(filled)
    page.get_by_label("Your text").fill("  ")
    page.get_by_role("button", name="Label it").click()
    until(lambda: "Write a text first" in page.locator("#mb-answers").inner_text(), "an empty text")


def test_an_answer_is_shown_only_beside_its_text(filled):
    page = filled.open(f"tab=try&track={TWEETS}&models=vader")
    box, answers = page.get_by_label("Your text"), page.locator("#mb-answers")
    delayed, is_held = [], True

    def delay(route):
        if is_held:
            delayed.append(route)
        else:
            route.continue_()

    page.route("**/gradio_api/run/predict*", delay)
    for text in ("I love it!", "I hate it!", "What a day."):
        box.fill(text)
        page.get_by_role("button", name="Label it").click()
        page.wait_for_timeout(100)
    is_held = False
    for route in delayed:  # the answers arrive when the text has changed
        route.continue_()
    until(lambda: "What a day." in answers.locator(".mb-quote").first.text_content(), "the last text is answered", 120)
    until(lambda: answers.locator("tbody tr").first.is_visible(), "its answer is shown")
    box.fill("What a day")
    until(lambda: not answers.locator("tbody tr").first.is_visible(), "it is no answer to another text")
    box.fill("What a day.")
    until(lambda: answers.locator("tbody tr").first.is_visible(), "it is one to its own")
    page.locator("#models input").click()
    page.get_by_role("option", name="tfidf-logreg").click()
    until(lambda: not answers.locator("tbody tr").first.is_visible(), "nor one of other models")


def test_a_negative_limit_is_refused_in_place_and_stays(filled):
    page = filled.open(f"tab=which&track={TWEETS}")
    page.get_by_label("Maximum memory, MiB").fill("-5")
    page.keyboard.press("Tab")
    pick = page.locator("#mb-pick")
    until(lambda: "-5; allowed is a number above 0" in pick.inner_text(), "what is allowed")
    page.wait_for_timeout(2000)
    assert "-5; allowed is a number above 0" in pick.inner_text() and "max_memory_mib=-5" in address(page)
    clean(filled)
    page.get_by_label("Maximum memory, MiB").fill("5000")
    page.keyboard.press("Tab")
    until(lambda: "are within the limits" in pick.inner_text(), "a limit in range is taken")


def test_back_returns_to_the_tab_before(filled):
    page = filled.open(f"track={TWEETS}")
    tabs = {"Speed": "speed", "Method": "method", "Data": "data"}
    for title, key in tabs.items():
        page.get_by_role("tab", name=title).click()
        until(lambda key=key: f"tab={key}" in address(page), title)

    def is_open(title):
        return page.get_by_role("tab", name=title).first.get_attribute("aria-selected") == "true"

    def answered(key):
        query = page.locator("#mb-address [data-query]").get_attribute("data-query") or ""
        return f"tab={key}" in query if key else "tab=" not in query

    until(lambda: answered("data"), "the last tab is shown")
    for title in ("Method", "Speed", "Leaderboard"):
        page.evaluate("history.back()")
        until(lambda title=title: is_open(title), f"back to {title}")
        until(lambda title=title: answered(tabs.get(title)), "the server has answered for it")
        assert f"tab={tabs.get(title)}" in address(page) or title not in tabs
        assert "track=icwsm" in address(page)


def test_back_before_the_server_has_answered_leads_to_the_tab_before_and_adds_no_entry(filled):
    page, held, is_released = filled.open(f"track={TWEETS}"), [], []
    page.route("**/gradio_api/run/**", lambda route: route.continue_() if is_released else held.append(route))
    page.get_by_role("tab", name="Speed").click()
    until(lambda: "tab=speed" in address(page) and held, "the tab is an entry of its own before it is answered")
    page.evaluate("history.back()")
    until(lambda: "tab=" not in address(page), "back on the tab before")
    is_released.append(True)
    for late in held:
        late.continue_()
    page.wait_for_timeout(2000)
    assert "tab=" not in address(page) and "track=icwsm" in address(page), "the late answer changes no address"
    assert page.get_by_role("tab", name="Leaderboard").first.get_attribute("aria-selected") == "true"
    page.evaluate("history.forward()")
    until(lambda: "tab=speed" in address(page), "the entry of the tab is still the next one")
    until(lambda: page.get_by_role("tab", name="Speed").first.get_attribute("aria-selected") == "true", "it is open")
    clean(filled)


def test_the_method_names_what_the_records_say(filled):
    page = filled.open("tab=method")
    text = page.locator("#mb-method").inner_text()
    fits = Store.open(filled.store).records("fits")
    assert set(fits["dataset_revision"]) <= set(text.replace(";", " ").split())
    assert "learning_rate" in text and "50 requests each" in text
    shot(filled, "method")
    clean(filled)


def test_files_are_fetched_and_read_back(filled):
    page = filled.open("tab=data&search=vader")
    fetched = {}
    for key in ("view-csv", "view-parquet", "all-csv", "all-parquet"):
        with page.expect_download() as download:
            page.locator(f"#get-{key}").click()
        fetched[key] = Path(download.value.path()).read_bytes()
    view = board(filled)
    whole = pd.read_csv(BytesIO(leaderboard_bytes(view, "csv")))
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
    fits = set(Store.open(filled.store).records("evaluations")["fit_id"])
    assert set(pd.read_csv(BytesIO(fetched["all-csv"]))["fit_id"]) == fits
    assert set(pd.read_parquet(BytesIO(fetched["all-parquet"]))["fit_id"]) == fits
    shot(filled, "data")
    clean(filled)
    link = page.get_by_role("link", name="Link to this view").get_attribute("href")
    assert link == "?" + address(page).split("?")[1]
