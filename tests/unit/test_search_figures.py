"""What is shown of a search: the same figures for the page and the report, from the store alone."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from test_search_analysis import trial

from moodbench.report.charts import Chart, Heatmap, NoData, ParallelCoordinates, draw
from moodbench.report.charts_plotly import plotly_figure
from moodbench.report.report import html, markdown, search_blocks, write_search_page
from moodbench.report.search import (
    FIGURES,
    TITLES,
    caption,
    cost_sentence,
    findings,
    search_sentences,
    trial_table,
)
from moodbench.store import Store
from moodbench.tune.result import SearchResult, search_result
from moodbench.tune.trials import SearchTrial, put_trial


def a_search(metric: str = "f1_macro") -> SearchResult:
    """Twelve finished trials on ranks 2 and 4: rank 4 is better by 0.1, or has the smaller loss."""
    made: list[SearchTrial] = []
    for number in range(12):
        rank, ratio = (2, 4)[number % 2], (1, 2)[number // 2 % 2]
        score = 0.6 + 0.1 * (number % 2) + number / 1000
        values = {"lora.r": rank, "lora.alpha_over_r": ratio, "train.learning_rate": 10 ** (-4 + number / 11)}
        if number == 11:
            del values["train.learning_rate"]
        score = 1 - score if metric == "nll" else score
        memory = (700 + number) * 2**20
        made.append(replace(trial(number, score, **values), metric=metric, curve=((100, score),), memory_bytes=memory))
    return search_result(made)


def test_the_map_shows_mean_interval_and_number_of_trials() -> None:
    (drawn,) = plotly_figure(FIGURES["map"](a_search())).data
    assert list(drawn.x) == ["2", "4"] and list(drawn.y) == ["1", "2"]
    # rank 4, ratio 1: trials 1, 5, 9 with 0.701, 0.705, 0.709: 0.705 +- 4.303 x 0.004 / sqrt(3) = 0.705 +- 0.0099.
    assert drawn.z[0][1] == pytest.approx(70.5) and drawn.text[0][1] == "70.5<br>[69.5, 71.5]<br>3 trials"


def test_one_trial_has_no_interval_and_a_missing_cell_is_empty() -> None:
    few = [
        trial(0, 0.6, **{"lora.r": 2, "lora.alpha_over_r": 1}),
        trial(1, 0.7, **{"lora.r": 4, "lora.alpha_over_r": 2}),
    ]
    figure = FIGURES["map"](search_result(few))
    assert isinstance(figure, Heatmap)
    assert figure.texts == [["60.0\none trial,\nno interval", ""], ["", "70.0\none trial,\nno interval"]]
    assert isinstance(FIGURES["map"](search_result([trial(0, 0.6, **{"lora.r": 2})])), NoData)


def test_a_loss_is_shown_in_its_unit_and_falls() -> None:
    search = a_search("nll")
    map_, budget = plotly_figure(FIGURES["map"](search)), FIGURES["budget"](search)
    assert isinstance(budget, Chart)
    assert map_.data[0].z[0][1] == pytest.approx(0.295) and map_.data[0].reversescale
    assert map_.data[0].text[0][1].startswith("0.295<br>")
    expected, so_far = (next(s for s in budget.series if part in s.name) for part in ("expected", "so far"))
    assert (np.diff(expected.y) <= 0).all() and (np.diff(so_far.y) <= 0).all() and max(expected.y) < 1
    assert "less is better" in budget.y.title
    assert "nll 0.289" in " ".join(search_sentences(search))


def test_a_parameter_that_is_not_used_has_its_own_place_on_the_line() -> None:
    figure = FIGURES["coordinates"](a_search())
    assert isinstance(figure, ParallelCoordinates)
    by_title = {dimension.title: dimension for dimension in figure.dimensions}
    assert list(by_title["lora.r"].ticks.values()) == ["2", "4"]
    rate = by_title["train.learning_rate"]
    assert rate.ticks[0.0] == "not used" and rate.places[-1] == 0.0 < min(rate.places[:-1])
    score = by_title["validation f1_macro, %"]
    assert score.ticks == {0.0: "60", 1.0: "71.1"} and score.places[1] == pytest.approx((70.1 - 60) / 11.1)
    (drawn,) = plotly_figure(figure).data
    assert [list(axis.ticktext) for axis in drawn.dimensions] == [list(d.ticks.values()) for d in figure.dimensions]


@pytest.mark.parametrize("metric", ["f1_macro", "nll"])
def test_page_and_report_draw_the_same_figures_as_valid_xml(metric: str) -> None:
    search = a_search(metric)
    for key in TITLES:
        figure = FIGURES[key](search)
        assert plotly_figure(figure).data and not isinstance(figure, NoData)
        drawing = draw(figure, key, TITLES[key])
        ElementTree.fromstring(drawing.svg_file)
        assert drawing.png.startswith(b"\x89PNG")
        assert caption(key, search).startswith(TITLES[key])
    lone = search_result([trial(0, None, "failed")])
    assert all(isinstance(FIGURES[key](lone), NoData) for key in TITLES)


def test_the_report_has_words_figures_and_every_trial_and_escapes_what_a_store_says() -> None:
    search = a_search()
    hostile = replace(search, trials=tuple(replace(t, space="<b>|x") for t in search.trials))
    blocks = list(search_blocks(hostile))
    text, page = markdown(blocks), "".join(map(html, blocks))
    assert text.count("| finished |") == 11 and "| pick | 71.1 | 1,200 |" in text
    for key, title in TITLES.items():
        assert f"![{title}](search-{'s' * 12}-{key}.svg)" in text
    assert page.count("<svg") == 5 and "<b>" not in page and "&lt;b&gt;|x" in page
    assert "12 configurations: 12 completed, 0 stopped early, 0 failed. 7,800 texts trained" in page


def test_the_cost_is_a_share_of_full_training_where_the_request_is_known() -> None:
    search = replace(a_search(), max_texts=1300)
    assert "18 s of trials, 50 % of training all of them in full." in cost_sentence(search)


def test_the_table_begins_with_the_pick_and_ends_with_what_failed() -> None:
    trials = [
        trial(0, 0.75, "stopped"),
        trial(1, None, "failed"),
        trial(2, 0.7),
        trial(3, 0.8),
        trial(4, 0.6, "unfinished"),
    ]
    headings, rows = trial_table(search_result(trials))
    assert headings == ["Ended", "Validation f1_macro %", "Texts", "Seconds"]
    assert [row[:2] for row in rows] == [
        ["pick", "80.0"],
        ["finished", "70.0"],
        ["unfinished", "60.0"],
        ["stopped", "75.0"],
        ["failed", "none"],
    ]


def test_a_pick_that_was_cut_off_is_named_so() -> None:
    search = search_result([trial(0, 0.9, "unfinished"), trial(1, 0.8)])
    assert trial_table(search)[1][0][:2] == ["pick, unfinished", "90.0"]
    assert findings(search)[0].startswith("Best on validation: after 100 texts, not completed, ")
    assert "1 completed, 0 stopped early, 0 failed, 1 unfinished." in cost_sentence(search)
    assert findings(search_result([trial(0, None, "failed")])) == [
        "No configuration has a validation score, so there is no pick."
    ]


def test_the_page_of_a_search_asks_nobody_for_anything(tmp_path: object) -> None:
    store, search = Store.open(str(tmp_path)), a_search()
    for each in search.trials:
        put_trial(store, each)
    uri = write_search_page(store, search)
    assert uri is not None and uri.endswith(f"exports/search-{'s' * 12}.html")
    written = store.location.local(f"exports/search-{'s' * 12}.html").read_text("utf-8")
    assert all(title in written for title in TITLES.values()) and "cdn.plot.ly" not in written.split("<script")[0]
    assert write_search_page(store, search_result([trial(0, None, "failed")])) is None
