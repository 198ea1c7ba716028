"""What each tab of the page shows of a small store."""

import os
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from page_store import HOSTILE, MACHINE, Page, filled, four_entries, write_trial

from moodbench.analysis.leaderboard import PARETO_COSTS
from moodbench.app.data import Downloads
from moodbench.app.html import empty
from moodbench.app.leaderboard_table import PROVISIONAL, leaderboard_table, missing_reason
from moodbench.app.live import spec_values
from moodbench.app.page import TABS, render_tab
from moodbench.app.privacy import failures_table
from moodbench.app.snapshot import SnapshotReader
from moodbench.app.tab import Services
from moodbench.app.url_state import State
from moodbench.app.which import use_command
from moodbench.report.formatting import COLUMNS, cells
from moodbench.report.leaderboard_view import StoreView, view_leaderboard
from moodbench.statistics.composite import Weights
from moodbench.store import Store

pytestmark = pytest.mark.integration


def leaderboard_html(view) -> str:
    return leaderboard_table(view.rows, view.rows, view.failures) + failures_table(view.failures, lambda dataset: True)


@pytest.fixture
def store(tmp_path):
    return four_entries(tmp_path / "results")


def test_the_page_and_the_terminal_show_the_same_cells(store):
    view = view_leaderboard(store, MACHINE)
    page = Page(leaderboard_html(view))
    assert page.tables[0] == cells(view.rows).to_numpy().tolist()
    assert [row[1] for row in page.tables[0]] == ["tfidf-logreg", "disturbed (contaminated)", HOSTILE, "unmeasured"]
    # The accuracy column has its axis below the heading: from the lowest to the highest end of an interval.
    assert page.headings[: len(COLUMNS)] == [c.heading for c in COLUMNS]
    assert "<span>55</span><span>90</span>" in leaderboard_html(view)


def test_an_empty_cell_has_a_reason_and_a_disturbed_measurement_is_marked(store):
    html = leaderboard_html(view_leaderboard(store, MACHINE))
    title = Page(html).title
    assert title("tfidf-logreg", "P99 ms") is None
    assert title("disturbed", "P99 ms") == f"withheld: too few clean requests; {PROVISIONAL}"
    assert title("disturbed", "Rank").startswith("no rank: the score is provisional")
    assert title("disturbed", "Score") == PROVISIONAL
    assert title("disturbed", "RAM MiB") == "the best", "memory does not depend on the clock"
    assert title(HOSTILE, "P50 ms") == title(HOSTILE, "Score") == "measurement failed, see below"
    assert title("unmeasured", "P50 ms") == title("unmeasured", "Rank") == "not measured on the machine shown"
    assert "<li>withheld: too few clean requests: disturbed (P99 ms)</li>" in html, "also without hovering"


def test_a_score_without_its_baseline_says_so(tmp_path):
    store = Store.open(tmp_path / "results")
    write_trial(store, 1, "alone", 0.7, {})
    why = Page(leaderboard_html(view_leaderboard(store, MACHINE))).title("alone", "Score")
    assert why == "not scored: the baseline has no result on this dataset"


def test_names_and_messages_cannot_become_markup(store):
    page = Page(leaderboard_html(view_leaderboard(store, MACHINE)))
    assert not {"img", "script", "b"} & page.tags
    (failure,) = page.tables[1]
    assert failure[:4] == [HOSTILE, "toy-set", "0", "measure"]
    assert failure[4] == "RuntimeError: <script>alert('worker')</script>second <b>line</b>"


def test_an_empty_store_says_how_to_start(tmp_path):
    nothing = Store.open(tmp_path / "nothing-yet")
    assert filled(nothing).notice == empty(nothing.uri)
    assert f"moodbench run quickstart --store {nothing.uri}" in empty(nothing.uri)
    assert not (tmp_path / "nothing-yet").exists(), "looking creates nothing"


def test_the_matrix_of_fits_says_what_was_not_run(store):
    write_trial(store, 5, "elsewhere", 0.7, None, dataset="other-set")
    shown = " ".join(str(each) for each in filled(store, "training").outputs)
    rows = {row[0]: row[1:] for row in Page(shown).tables[0]}
    assert rows["elsewhere"] == ["1,000 texts: seed 0", "not run"]
    assert rows["unmeasured"] == ["not run", "1,000 texts: seed 0"]


def test_a_store_of_failures_only_shows_them(tmp_path):
    store = Store.open(tmp_path / "results")
    with store.attempt() as attempt:
        attempt.fail("a9", {"phase": "fit", "model": "toy", "dataset": "d", "seed": 1, "error_class": "OSError"})
    (table,) = Page(filled(store).notice).tables
    assert table == [["toy", "d", "1", "fit", "OSError"]]


def test_a_damaged_store_shows_the_message_and_no_traceback(store):
    path = next((Path(store.uri) / "fits").rglob("*.parquet"))
    os.truncate(path, 100)
    shown = filled(store)
    notice = shown.notice
    assert path.name in notice and "cannot be read as Parquet" in notice and "verify --set-aside" in notice
    assert "Traceback" not in notice and shown.outputs is None


def test_a_filter_hides_rows_and_moves_no_place(store):
    shown = filled(store, search="NOTHING;unmeas")
    sentence, table, *_ = shown.outputs
    assert [row[:2] for row in Page(table).tables[0]] == [["—", "unmeasured"]]
    assert "1 of 4 entries shown" in sentence and "search=NOTHING%3Bunmeas" in shown.address
    assert "No entry matches" in filled(store, search="x-y-z").outputs[1]


def test_an_invalid_measurement_is_marked_and_is_best_in_nothing(store):
    write_trial(store, 5, "wrong", 0.99, {"verdict": "invalid", "latency_p50_s": 1e-6, "throughput_texts_per_s": 1e9})
    write_trial(store, 6, "slower", 0.5, {"latency_p50_s": 0.02})
    view = view_leaderboard(store, MACHINE)
    html = leaderboard_html(view)
    title = Page(html).title
    assert "wrong (invalid)" in [row[1] for row in Page(html).tables[0]]
    assert title("wrong", "P50 ms") is None and title("wrong", "Texts/s") is None, "not the best"
    assert title("tfidf-logreg", "P50 ms") == "the best", "of the two that are measured and undisturbed"
    assert title("wrong", "Score") == "no rank: the timed model and the evaluated one gave different labels"
    leaderboard = filled(store).outputs
    hover = " ".join(text for trace in leaderboard[2].data if trace.customdata is not None for text in trace.customdata)
    assert (
        "tfidf-logreg" in hover
        and "wrong" not in hover
        and "Not shown: wrong (the timed model gave other labels" in leaderboard[3]
    )
    (pick,) = filled(store, "which").outputs
    assert "<h3>wrong</h3>" in pick and "half of the texts in" not in pick, "accurate, its speed unknown"
    (fast,) = filled(store, "which", max_p99_ms=1.0).outputs
    assert "No measured entry meets all limits" in fast


def test_a_small_probability_is_not_a_missing_record():
    row = pd.Series({"fit_ids": ["a"], **dict.fromkeys(PARETO_COSTS.values(), 0.01)})
    none = pd.DataFrame({"phase": [], "fit_id": []})
    assert missing_reason("p_pareto_latency", row, none) == "in no Pareto set with a probability of 5 % or more"
    assert (
        missing_reason("p_pareto_latency", pd.Series({"fit_ids": None}), none) == "computed for each dataset separately"
    )


def test_a_value_computed_from_all_entries_names_the_reason_that_it_is_missing():
    none = pd.DataFrame({"phase": [], "fit_id": []})
    measured = pd.Series(
        {"fit_ids": ["a"], "latency_p50_s": 0.01, "memory_peak_batch1_bytes": None, "train_time_s": 1.0}
    )
    assert missing_reason("accuracy_letters", measured, none) == "unknown: the entries were tested on different texts"
    assert (
        missing_reason("hypervolume_latency", measured, none) == "unknown: the entries were tested on different texts"
    )
    assert missing_reason("hypervolume_memory", measured, none) == "not recorded"
    unmeasured = pd.Series({"fit_ids": ["a"]})
    assert missing_reason("hypervolume_latency", unmeasured, none) == "not measured on the machine shown"
    overall = pd.Series({"fit_ids": None, "latency_p50_s": 0.01, "on_all": True})
    assert missing_reason("hypervolume_latency", overall, none) == "computed for each dataset separately"
    partial = overall.replace({True: False})
    assert missing_reason("accuracy_letters", partial, none).startswith(
        "computed only for entries that were run on all"
    )


def test_minmax_needs_no_baseline_to_be_missing(tmp_path):
    store = Store.open(tmp_path / "results")
    write_trial(store, 1, "alone", 0.7, None)
    title = Page(leaderboard_html(view_leaderboard(store, MACHINE, composite="minmax"))).title
    assert title("alone", "Score") == "not measured on the machine shown"


def test_without_a_score_no_part_of_it_is_called_missing(store):
    view = view_leaderboard(store, MACHINE, composite="none")
    title = Page(leaderboard_html(view)).title
    assert title("tfidf-logreg", "Score") == "no score was requested" == title("unmeasured", "Score")
    assert title("unmeasured", "Rank") == "not measured on the machine shown"


def test_downloads_match_the_view_and_their_number_is_limited(store):
    paths = filled(store, "data", composite="minmax", accuracy=100, f1=0, throughput=0, latency=0).outputs[1:5]
    again = filled(store, "data", composite="minmax", accuracy=100, f1=0, throughput=0, latency=0).outputs[1:5]
    assert [Path(p).name for p in paths] == [
        "moodbench-view.csv", "moodbench-view.parquet", "moodbench-all.csv", "moodbench-all.parquet",
    ]  # fmt: skip
    expected = view_leaderboard(store, MACHINE, weights=Weights(1, 0, 0, 0), composite="minmax")
    assert pd.read_csv(paths[0])["score"].tolist() == pytest.approx(expected.rows["score"].tolist(), nan_ok=True)
    assert pd.read_csv(paths[0])["score"].max() == 100, "min-max gives the most accurate all points"
    few = Downloads(max_files=2)
    kept = [few.path(number, "a.csv", lambda n=number: str(n).encode()) for number in range(5)]
    assert [Path(p).exists() for p in kept] == [False, False, False, True, True]
    assert few.path(4, "a.csv", lambda: b"new") == kept[4] and Path(kept[4]).read_bytes() == b"4"
    assert len(again) == 4


def test_the_command_is_one_that_works(store):
    reader = SnapshotReader(store, MACHINE)
    results = reader.current().results
    row = results.entries.iloc[0]
    specs = ('{"preparation": ["urls"]}', '{"preparation": []}', None)
    commands = []
    for spec in specs:
        records = replace(results.records, fits=results.records.fits.assign(spec=spec))
        changed = replace(reader.current(), shown=StoreView(replace(results, records=records)))
        commands.append(use_command(pd.Series({**row, "method": "lora"}), changed))
    assert [command.split()[1] for command in commands] == ["predict", "export-model", "export-model"]
    assert all(command.endswith(f" --store {store.uri}") for command in commands)


def test_the_command_for_all_datasets_names_a_fit_of_that_entry(tmp_path):
    store = Store.open(tmp_path / "results")
    for number, (name, dataset) in enumerate(product(("plain", "nf4"), ("one-set", "other-set"))):
        speed = {"latency_p50_s": 0.010 if name == "plain" else 0.020}
        write_trial(store, 2 * number + 1, "tfidf-logreg", 0.6, {}, dataset=dataset, seed=number)
        write_trial(
            store, 2 * number + 2, "big", 0.8, speed, dataset=dataset, quantization="none" if name == "plain" else name
        )
    snapshot = SnapshotReader(store, MACHINE).current()
    whole = snapshot.track_rows(State())
    fits = snapshot.results.records.fits.set_index("fit_id")
    found = {}
    for _, row in whole[whole["model"] == "big"].iterrows():
        which = use_command(row, snapshot).split(" --model ")[1].split()[0]
        found[row["name"]] = tuple(fits.loc[which, ["model", "dataset", "quantization"]])
    assert found == {"big": ("big", "one-set", "none"), "big nf4": ("big", "one-set", "nf4")}
    assert "</code> (its fit on one-set)" in filled(store, "which").outputs[0]
    assert "(its fit on" not in filled(store, "which", track=snapshot.track_names[0]).outputs[0], (
        "the page says which set"
    )


def test_the_order_of_f1_by_dataset_does_not_depend_on_the_weights(store):
    write_trial(store, 5, "fast", 0.65, {"latency_p50_s": 1e-4, "throughput_texts_per_s": 1e4})
    quality, speed = ({"accuracy": a, "f1": a, "throughput": s, "latency": s} for a, s in ((50, 0), (0, 50)))
    shown = [filled(store, **weights).outputs for weights in (quality, speed)]
    ranked = [[row[1] for row in Page(outputs[1]).tables[0]] for outputs in shown]
    assert ranked[0] != ranked[1], "otherwise this shows nothing"
    orders = [list(outputs[4].layout.yaxis.ticktext) for outputs in shown]
    assert orders[0] == orders[1] == ["unmeasured", "fast", HOSTILE, "tfidf-logreg", "disturbed (contaminated)"], (
        "the best on top"
    )


def test_new_weights_render_the_table_alone_unless_the_store_has_changed(store):
    (tab,) = (tab for tab in TABS if tab.key == "leaderboard")
    now = 0.0
    reader = SnapshotReader(store, MACHINE, clock=lambda: now)
    before, moved = State(tab=tab.key), State(tab=tab.key, accuracy=90)
    opened = render_tab(reader, tab, before, Services())
    again = render_tab(reader, tab, moved, Services(), source=opened.source)
    assert [each is None for each in again.outputs] == [False, False, True, True, True, True, False]
    assert again.source == opened.source and again.outputs[1] != opened.outputs[1]

    write_trial(store, 5, "newcomer", 0.9, {})
    now = 1000.0
    reader.current(timeout_s=60)
    at_once = render_tab(reader, tab, moved, Services(), source=opened.source)
    assert at_once.source != opened.source
    assert "newcomer" in at_once.outputs[1] and "newcomer" in at_once.outputs[4].layout.yaxis.ticktext


def test_no_tab_shows_a_message_that_may_quote_a_private_text(store):
    """The texts of toy-set are not in this store, so that they may be private."""
    for key in ("leaderboard", "training", "method"):
        (tab,) = (tab for tab in TABS if tab.key == key)
        hidden, shown = (
            str(render_tab(SnapshotReader(store, MACHINE), tab, State(tab=key), Services(show_texts=asked_for)).outputs)
            for asked_for in (False, True)
        )
        if key != "training":  # which lists fits that failed; here a measurement did
            assert "second &lt;b" in shown and "RuntimeError" in hidden
        assert "second &lt;b" not in hidden, key


def test_an_empty_store_hides_messages_too(tmp_path):
    store = Store.open(tmp_path / "results")
    with store.attempt() as attempt:
        failure = {"phase": "fit", "model": "toy", "dataset": "d", "seed": 1, "error_class": "OSError"}
        attempt.fail("a9", {**failure, "message": "cannot read 'a private text'"})
    assert "a private text" not in filled(store).notice
    for key in ("leaderboard", "training"):
        (tab,) = (tab for tab in TABS if tab.key == key)
        shown = render_tab(SnapshotReader(store, MACHINE), tab, State(tab=key), Services(show_texts=True)).notice
        assert "a private text" in shown


@pytest.mark.parametrize("tab", [tab.key for tab in TABS])
def test_a_tab_renders_records_without_specs_points_and_samples(store, tab):
    write_trial(
        store,
        5,
        "bare",
        0.8,
        {"throughput_points": None, "throughput_texts_per_s": None, "memory_peak_batch1_bytes": None},
    )
    shown = filled(store, tab, models=("bare", "unmeasured", "tfidf-logreg"))
    if tab == "compare":
        assert "has no predictions, so it cannot be paired" in shown.notice
        return
    assert shown.outputs is not None and shown.notice == ""
    if tab == "speed":
        assert "Not shown: unmeasured (not measured on the machine shown)" in shown.outputs[0]
        assert "bare (no throughput was recorded)" in shown.outputs[4]


def test_empty_fields_of_the_form_keep_the_values_of_the_preset():
    assert spec_values((), (), 0) == {}
    assert spec_values(["vader"], ["icwsm-movie"], 3) == {
        "models": ("vader",),
        "datasets": ("icwsm-movie",),
        "seeds": (0, 1, 2),
    }
    assert spec_values(["vader"], (), 1) == {"models": ("vader",), "seeds": (0,)}, "one seed is not the preset's number"
