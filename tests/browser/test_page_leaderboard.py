"""The Leaderboard tab in a real browser: what the terminal shows, ranked, searched, filtered and sorted by its visitor."""

import pytest
from chromium import address, until
from page_helpers import ROWS, TWEETS, board, choose, clean, drawn, headings, names, order, scores, shot

from moodbench.report.formatting import COLUMNS, cells
from moodbench.statistics.composite import Weights

pytestmark = pytest.mark.browser


def test_the_board_shows_what_the_terminal_shows(filled):
    page = filled.open()
    view = board(filled)
    overall = view.tracks[-1]
    until(lambda: filled.open() and order(page) == names(view), "what the last run wrote is read", 60)
    expected = cells(view.track(overall)).to_numpy().tolist()
    shown = page.eval_on_selector_all(
        ROWS,
        "rows => rows.map(r => [...r.cells].map(c => (c.querySelector('span:not(.mb-mark)') || c).textContent.trim()))",
    )
    assert [row[2:] for row in shown] == [row[2:] for row in expected]
    assert [h for h in page.locator("#mb-leaderboard thead button").all_inner_texts()] == [c.heading for c in COLUMNS]
    assert page.locator("#mb-answer").inner_text().startswith(names(view)[0])
    drawn(page, "trade-off")
    drawn(page, "by-dataset")
    page.wait_for_timeout(400)
    shot(filled, "leaderboard")
    clean(filled)


def test_a_slider_ranks_the_table_again_and_the_address_follows(filled):
    page = filled.open()
    plain = order(page), scores(page)
    page.get_by_role("button", name="What matters to you?").click()
    for criterion in ("f1", "throughput", "latency"):
        slider = page.locator(f"#w-{criterion} input[type=range]")
        slider.press("Home")
        until(lambda slider=slider: slider.input_value() == "0", f"the slider of {criterion} at its start")
    until(lambda: all(f"{c}=0" in address(page) for c in ("f1", "throughput", "latency")), "the address")
    expected = shown_under(filled, Weights(1, 0, 0, 0))
    until(lambda: (order(page), scores(page)) == expected, f"{plain} becomes {expected}")
    assert expected != plain, "otherwise this shows nothing"
    for _ in range(12):  # a burst ends on its last value
        page.keyboard.press("ArrowRight")
    until(lambda: "latency=60" in address(page), "the last move of a burst counts")
    expected = shown_under(filled, Weights(1 / 3, 0, 0, 1 - 1 / 3))
    until(lambda: (order(page), scores(page)) == expected, "the order and scores of the last move")
    clean(filled)


def shown_under(filled, weights) -> tuple[list[str], list[str]]:
    """Names and scores of all datasets together, in order."""
    view = board(filled, weights=weights)
    return names(view), cells(view.track(view.tracks[-1]))["Score"].tolist()


def test_a_preset_sets_the_weights(filled):
    page = filled.open()
    page.get_by_role("button", name="Most accurate").click()
    expected = names(board(filled, weights=Weights(0.5, 0.5, 0, 0)))
    until(lambda: order(page) == expected and "throughput=0" in address(page), "the order by accuracy and F1")
    page.get_by_role("button", name="Balanced").click()
    until(
        lambda: order(page) == names(board(filled)) and "throughput" not in address(page), "the plain order and address"
    )


def test_weights_send_the_table_and_no_figure(filled):
    page = filled.open()
    answers = []
    page.on("response", lambda answer: answers.append(answer) if "/run/" in answer.url else None)

    def sent() -> list[str]:
        page.wait_for_timeout(50)  # in which answers are taken note of
        return [answer.text() for answer in answers]

    page.get_by_role("button", name="Most accurate").click()
    until(lambda: any("<table" in each for each in sent()), "the table under these weights")
    assert not any("plotly" in each for each in sent())
    page.locator("#search textarea, #search input").first.fill("MiniLM")
    until(lambda: any("plotly" in each for each in sent()), "figures of the rows that are left")


def test_search_and_filters_hide_rows(filled):
    page = filled.open()
    box = page.locator("#search textarea, #search input").first
    box.press_sequentially("vad;MINI", delay=15)
    until(lambda: set(order(page)) == {"vader", "MiniLM-L3"}, "two rows are left")
    box.fill("nothing-like-it")
    until(lambda: "No entry matches" in page.locator("#mb-leaderboard").inner_text(), "a hint what to do")
    shot(filled, "no-match")
    box.fill("")
    until(lambda: len(order(page)) == 3, "all rows again")
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("lora").check()
    until(lambda: order(page) == ["MiniLM-L3"] and "methods=lora" in address(page), "one method")


def test_an_address_shows_the_same_view_again(filled):
    page = filled.open(f"track={TWEETS}&accuracy=100&f1=0&throughput=0&latency=0&search=a;i&models=vader;tfidf-logreg")
    seen = order(page), address(page), page.locator("#mb-answer").inner_text()
    assert len(seen[0]) >= 2 and "track=icwsm-tweets" in seen[1] and "models=vader%3Btfidf-logreg" in seen[1]
    again = page.context.new_page()
    filled.open(seen[1].split("?")[1], again)
    assert (order(again), address(again), again.locator("#mb-answer").inner_text()) == seen
    again.get_by_role("button", name="What matters to you?").click()
    assert again.locator("#w-accuracy input[type=number]").input_value() == "100"
    again.close()
    hostile = "accuracy=nan&f1=1e999&models=%3Cscript%3E&search=%3Cimg%20src=x%20onerror=alert(1)%3E&sort=%22%5D&tab=x"
    filled.open(hostile)
    assert "No entry matches" in page.locator("#mb-leaderboard").inner_text()
    assert page.locator("#mb-leaderboard img, #mb-answer img").count() == 0


def test_filters_columns_and_the_axis_are_in_the_address_and_come_back_from_it(filled):
    page = filled.open()
    page.get_by_role("button", name="Filters").click()
    for method in ("lora", "baseline"):
        page.get_by_label(method, exact=True).check()
    for column in ("MCC", "ECE %"):
        page.get_by_label(f"{column}:").check()
    choose(page, "max-params", "up to 25 million parameters")
    choose(page, "against", "memory of the process, MiB")
    asked = ("methods=lora%3Bbaseline", "columns=mcc%3Bece", "max_params=25", "against=memory_peak_batch1_bytes")
    until(lambda: all(part in address(page) for part in asked), "all is in the address")
    until(lambda: "memory of the process" in axis_title(page), "the figure has the other axis")
    seen = order(page), headings(page), address(page)
    assert {"MCC", "ECE %"} <= set(seen[1]) and set(seen[0]) == {"MiniLM-L3", "tfidf-logreg", "vader"}
    again = page.context.new_page()
    filled.open(seen[2].split("?")[1], again)
    assert (order(again), headings(again), address(again)) == seen
    until(lambda: "memory of the process" in axis_title(again), "the same axis")
    again.get_by_role("button", name="Filters").click()
    assert again.get_by_label("lora", exact=True).is_checked() and again.get_by_label("MCC:").is_checked()
    assert not again.get_by_label("NLL:").is_checked()
    assert again.locator("#max-params input").input_value() == "up to 25 million parameters"
    again.close()
    page.get_by_label("MCC:").uncheck()
    until(lambda: "columns=ece" in address(page) and "MCC" not in headings(page), "a column goes again")


def axis_title(page) -> str:
    return page.locator("#trade-off .xtitle").first.text_content() if page.locator("#trade-off .xtitle").count() else ""


def test_headings_sort_and_what_is_missing_stays_last(filled):
    page = filled.open()
    page.locator("#mb-leaderboard thead button[data-key=latency_p50_s]").click()
    values = [
        float(v) if v else None
        for v in page.eval_on_selector_all(f"{ROWS} .mb-latency_p50_s", "c => c.map(x => x.dataset.v)")
    ]
    assert values == sorted(values) and "sort=latency_p50_s" in address(page)
    heading = page.locator("#mb-leaderboard th.mb-latency_p50_s").first
    assert heading.get_attribute("aria-sort") == "ascending"
    page.locator("#mb-leaderboard thead button[data-key=latency_p50_s]").click()
    assert heading.get_attribute("aria-sort") == "descending" and "sort=-latency_p50_s" in address(page)
    slow_first = order(page)
    page.get_by_role("button", name="Fastest").click()  # rendered again by the server
    until(lambda: "throughput=50" in address(page), "new weights")
    assert order(page) == slow_first and "sort=-latency_p50_s" in address(page), "the order outlives it"
    filled.open("sort=-accuracy")
    shares = page.eval_on_selector_all(f"{ROWS} .mb-accuracy", "c => c.map(x => Number(x.dataset.v))")
    assert shares == sorted(shares, reverse=True), "a link sorts too"


def test_the_keyboard_reaches_and_works_everything_on_the_board(filled):
    page = filled.open()
    page.locator("#mb-leaderboard thead button").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#mb-leaderboard th.mb-name").first.get_attribute("aria-sort") == "ascending"
    page.get_by_role("tab", name="Leaderboard").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(lambda: page.get_by_role("tab", name="Which model?").get_attribute("aria-selected") == "true", "the next tab")
