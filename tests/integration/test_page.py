import gc
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import pandas as pd
import psutil
import pytest

from moodbench.comparison.composite import Weights
from moodbench.comparison.standing import PARETO_COSTS
from moodbench.hardware import Hardware
from moodbench.store import Store
from moodbench.visualization.board_view import view_board
from moodbench.visualization.formatting import COLUMNS, cells
from moodbench.visualization.page.board_cells import PROVISIONAL
from moodbench.visualization.page.board_table import board_table, failures_table
from moodbench.visualization.page.downloads import Downloads
from moodbench.visualization.page.filling import fill
from moodbench.visualization.page.html import empty
from moodbench.visualization.page.reading import LOOK_EVERY_S, Reader
from moodbench.visualization.page.shell import TABS, Shell
from moodbench.visualization.page.starting import asked
from moodbench.visualization.page.tab import Services
from moodbench.visualization.page.which import use_command
from moodbench.visualization.page.why_missing import why_missing
from moodbench.visualization.state import State, read_state

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
MACHINE = Hardware("toy CPU", num_cores=2, memory_bytes=2**33, gpus=(), mps=False)
HOSTILE = '<img src=x onerror="alert(1)">&'


class Page(HTMLParser):
    """The cells of each table's body as text, their titles, and the headings of all tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.headings: list[str] = []
        self.tables: list[list[list[str]]] = []
        self._titles: list[list[str | None]] = []
        self._open: list[str] = []
        self.feed(html)

    def title(self, model: str, heading: str) -> str | None:
        """The title of one cell of the board."""
        names = [row[1].split(" (")[0] for table in self.tables for row in table]
        return self._titles[names.index(model)][[c.heading for c in COLUMNS].index(heading)]

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._open.append(tag)
        if tag == "tbody":
            self.tables.append([])
        elif "tbody" in self._open and tag == "tr":
            self.tables[-1].append([])
            self._titles.append([])
        elif "tbody" in self._open and tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._titles[-1].append(dict(attrs).get("title"))
        elif tag == "th":
            self.headings.append("")

    def handle_endtag(self, tag):
        while self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "tbody" in self._open:
            self.tables[-1][-1][-1] += data
        elif self._open[-1:] in (["th"], ["button"]):
            self.headings[-1] += data


def write_trial(
    store: Store,
    number: int,
    model: str,
    accuracy: float,
    speed: dict | None,
    dataset: str = "toy-set",
    **changes,
) -> str:
    """The fit id of a committed trial; `speed` is what differs in its measurement, None for no measurement; `changes` in its fit."""
    fit_id, evaluation_id, measurement_id = (f"{kind}{number}" + "0" * 18 for kind in "abc")
    trial = {"model": model, "dataset": dataset, "seed": 0, "config_id": f"{number}" * 20, "fit_id": fit_id}
    when = {"started_at": datetime(2026, 1, 1, tzinfo=UTC), "ended_at": datetime(2026, 1, 1, 0, 1, tzinfo=UTC)}
    fit = {"status": "ok", "dataset_revision": "r1", "num_train": 1000, "method": "baseline", "num_params": 1234}
    fit |= {"train_time_s": 0.25, **changes}
    quality = dict.fromkeys(("accuracy", "f1_macro", "precision_macro", "recall_macro"), accuracy)
    with store.attempt() as attempt:
        attempt.commit("fits", fit_id, {k: v for k, v in (trial | fit | when).items() if k != "fit_id"}, {})
        attempt.commit("evaluations", evaluation_id, trial | quality | when | {"num_test": 500}, {})
        if speed is not None:
            points = [{"batch_size": 1, "texts_per_s": 100.0, "texts_per_cpu_s": 110.0}]
            measured = {
                "verdict": "clean",
                "quick": False,
                "perf_key": "toy",
                "machine_key": "toy",
                "device_name": "toy CPU",
            }
            measured |= {"latency_p50_s": 0.010, "latency_p99_s": 0.020, "cpu_time_p50_s": 0.009}
            measured |= {"throughput_texts_per_s": 100.0, "throughput_points": points}
            measured |= {"memory_peak_batch1_bytes": 100 * 2**20}
            attempt.commit("measurements", measurement_id, trial | measured | when | speed, {})
    return fit_id


def board_html(view) -> str:
    return board_table(view.board, view.board, view.failures) + failures_table(view.failures, lambda dataset: True)


@pytest.fixture
def store(tmp_path):
    """Four contenders: clean, disturbed and without a P99, one whose measuring failed, one that is not measured."""
    made = Store.open(tmp_path / "results")
    write_trial(made, 1, "tfidf-logreg", 0.76, {})
    write_trial(made, 2, "disturbed", 0.82, {"verdict": "contaminated", "latency_p99_s": None})
    failed = write_trial(made, 3, HOSTILE, 0.70, None)
    write_trial(made, 4, "unmeasured", 0.60, None)
    with made.attempt() as attempt:
        message = "<script>alert('worker')</script>\nsecond <b>line</b>"
        failure = {"phase": "measure", "model": HOSTILE, "dataset": "toy-set", "seed": 0, "fit_id": failed}
        attempt.fail("c3" + "0" * 18, failure | {"error_class": "RuntimeError", "message": message})
    return made


def test_the_page_and_the_terminal_show_the_same_cells(store):
    view = view_board(store, MACHINE)
    page = Page(board_html(view))
    assert page.tables[0] == cells(view.board).to_numpy().tolist()
    assert [row[1] for row in page.tables[0]] == ["tfidf-logreg", "disturbed (contaminated)", HOSTILE, "unmeasured"]
    # The accuracy column has its axis below the heading: from the lowest to the highest end of an interval.
    assert page.headings[: len(COLUMNS)] == [c.heading for c in COLUMNS]
    assert "<span>55</span><span>90</span>" in board_html(view)


def test_what_is_missing_says_why_and_what_was_disturbed_is_marked(store):
    html = board_html(view_board(store, MACHINE))
    title = Page(html).title
    assert title("tfidf-logreg", "P99 ms") is None
    assert title("disturbed", "P99 ms") == f"withheld: too few clean requests; {PROVISIONAL}"
    assert title("disturbed", "Rank").startswith("no place: the score is provisional")
    assert title("disturbed", "Score") == PROVISIONAL
    assert title("disturbed", "RAM MiB") == "the best", "memory does not depend on the clock"
    assert title(HOSTILE, "P50 ms") == title(HOSTILE, "Score") == "measuring failed, see below"
    assert title("unmeasured", "P50 ms") == title("unmeasured", "Rank") == "not measured on the machine shown"
    assert "<li>withheld: too few clean requests: disturbed (P99 ms)</li>" in html, "also without hovering"


def test_a_score_without_its_baseline_says_so(tmp_path):
    store = Store.open(tmp_path / "results")
    write_trial(store, 1, "alone", 0.7, {})
    why = Page(board_html(view_board(store, MACHINE))).title("alone", "Score")
    assert why == "not scored: the baseline has no result on this data"


def test_names_and_messages_cannot_become_markup(store):
    page = Page(board_html(view_board(store, MACHINE)))
    assert not {"img", "script", "b"} & page.tags
    (failure,) = page.tables[1]
    assert failure[:4] == [HOSTILE, "toy-set", "0", "measure"]
    assert failure[4] == "RuntimeError: <script>alert('worker')</script>second <b>line</b>"


def filled(store, key="leaderboard", **state):
    """What one tab shows."""
    (tab,) = (tab for tab in TABS if tab.key == key)
    return fill(Reader(store, MACHINE), tab, State(tab=key, **state), Services())


def test_an_empty_store_says_how_to_start(tmp_path):
    nothing = Store.open(tmp_path / "nothing-yet")
    assert filled(nothing).notice == empty(nothing.uri)
    assert f"moodbench run quickstart --store {nothing.uri}" in empty(nothing.uri)
    assert not (tmp_path / "nothing-yet").exists(), "looking creates nothing"


def test_the_matrix_of_fits_says_what_was_not_run(store):
    write_trial(store, 5, "elsewhere", 0.7, None, dataset="other-set")
    shown = " ".join(str(each) for each in filled(store, "training").contents)
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
    assert "Traceback" not in notice and shown.contents is None


def test_a_filter_hides_rows_and_moves_no_place(store):
    shown = filled(store, search="NOTHING;unmeas")
    sentence, table, *_ = shown.contents
    assert [row[:2] for row in Page(table).tables[0]] == [["—", "unmeasured"]]
    assert "1 of 4 contenders shown" in sentence and "search=NOTHING%3Bunmeas" in shown.address
    assert "No contender matches" in filled(store, search="x-y-z").contents[1]


def test_an_invalid_measurement_is_marked_and_is_best_in_nothing(store):
    write_trial(store, 5, "wrong", 0.99, {"verdict": "invalid", "latency_p50_s": 1e-6, "throughput_texts_per_s": 1e9})
    write_trial(store, 6, "slower", 0.5, {"latency_p50_s": 0.02})
    view = view_board(store, MACHINE)
    html = board_html(view)
    title = Page(html).title
    assert "wrong (invalid)" in [row[1] for row in Page(html).tables[0]]
    assert title("wrong", "P50 ms") is None and title("wrong", "Texts/s") is None, "not the best"
    assert title("tfidf-logreg", "P50 ms") == "the best", "of the two that are measured and undisturbed"
    assert title("wrong", "Score") == "no place: the timed model gave other labels than the evaluated one"
    leaderboard = filled(store).contents
    names = [name for trace in leaderboard[2].data if trace.customdata is not None for name, _ in trace.customdata]
    assert "wrong" not in names and "Not shown: wrong (the timed model gave other labels" in leaderboard[3]
    (pick,) = filled(store, "which").contents
    assert "<h3>wrong</h3>" in pick and "half of the texts in" not in pick, "accurate, its speed unknown"
    (fast,) = filled(store, "which", max_p99_ms=1.0).contents
    assert "No measured contender keeps to all limits" in fast


def test_a_small_chance_is_not_taken_for_a_missing_record():
    row = pd.Series({"fit_ids": ["a"], **dict.fromkeys(PARETO_COSTS.values(), 0.01)})
    none = pd.DataFrame({"phase": [], "fit_id": []})
    assert why_missing("p_pareto_latency", row, none) == "in no Pareto set with a chance of 5 % or more"
    assert why_missing("p_pareto_latency", pd.Series({"fit_ids": None}), none) == "worked out for each data set alone"


def test_without_a_score_no_part_of_it_is_called_missing(store):
    view = view_board(store, MACHINE, composite="none")
    title = Page(board_html(view)).title
    assert title("tfidf-logreg", "Score") == "no score was asked for" == title("unmeasured", "Score")
    assert title("unmeasured", "Rank") == "not measured on the machine shown"


def test_the_files_of_a_view_are_those_of_its_score_and_do_not_pile_up(store):
    paths = filled(store, "data", composite="minmax", accuracy=100, f1=0, throughput=0, latency=0).contents[1:5]
    again = filled(store, "data", composite="minmax", accuracy=100, f1=0, throughput=0, latency=0).contents[1:5]
    assert [Path(p).name for p in paths] == [
        "moodbench-view.csv", "moodbench-view.parquet", "moodbench-all.csv", "moodbench-all.parquet",
    ]  # fmt: skip
    expected = view_board(store, MACHINE, weights=Weights(1, 0, 0, 0), composite="minmax")
    assert pd.read_csv(paths[0])["score"].tolist() == pytest.approx(expected.board["score"].tolist(), nan_ok=True)
    assert pd.read_csv(paths[0])["score"].max() == 100, "min-max gives the most accurate all points"
    few = Downloads(most=2)
    kept = [few.path(number, "a.csv", lambda n=number: str(n).encode()) for number in range(5)]
    assert [Path(p).exists() for p in kept] == [False, False, False, True, True]
    assert few.path(4, "a.csv", lambda: b"new") == kept[4] and Path(kept[4]).read_bytes() == b"4"
    assert len(again) == 4


def test_the_command_is_one_that_works(store):
    reader = Reader(store, MACHINE)
    results = reader.current().results
    row = results.contenders.iloc[0]
    specs = ('{"preparation": ["urls"]}', '{"preparation": []}', None)
    said = []
    for spec in specs:
        fits = results.fits.assign(spec=spec)
        reading = replace(reader.current(), results=replace(results, fits=fits))
        said.append(use_command(pd.Series({**row, "method": "lora"}), reading))
    assert [words.split()[1] for words in said] == ["predict", "export-model", "export-model"]
    assert all(words.endswith(f" --store {store.uri}") for words in said)


def test_the_command_for_all_data_sets_names_a_fit_of_that_very_contender(tmp_path):
    store = Store.open(tmp_path / "results")
    for number, (name, dataset) in enumerate(product(("plain", "nf4"), ("one-set", "other-set"))):
        speed = {"latency_p50_s": 0.010 if name == "plain" else 0.020}
        write_trial(store, 2 * number + 1, "tfidf-logreg", 0.6, {}, dataset=dataset, seed=number)
        write_trial(
            store, 2 * number + 2, "big", 0.8, speed, dataset=dataset, quantization="none" if name == "plain" else name
        )
    reading = Reader(store, MACHINE).current()
    whole = reading.order(State().weights).track(reading.tracks[-1])
    fits = reading.results.fits.set_index("fit_id")
    found = {}
    for _, row in whole[whole["model"] == "big"].iterrows():
        which = use_command(row, reading).split(" --model ")[1].split()[0]
        found[row["name"]] = tuple(fits.loc[which, ["model", "dataset", "quantization"]])
    assert found == {"big": ("big", "one-set", "none"), "big nf4": ("big", "one-set", "nf4")}
    assert "</code> (its fit on one-set)" in filled(store, "which").contents[0]
    assert "(its fit on" not in filled(store, "which", track=reading.tracks[0]).contents[0], "the page says which set"


def test_f1_by_data_set_stands_in_an_order_that_no_weights_change(store):
    write_trial(store, 5, "fast", 0.65, {"latency_p50_s": 1e-4, "throughput_texts_per_s": 1e4})
    quality, speed = ({"accuracy": a, "f1": a, "throughput": s, "latency": s} for a, s in ((50, 0), (0, 50)))
    shown = [filled(store, **weights).contents for weights in (quality, speed)]
    ranked = [[row[1] for row in Page(contents[1]).tables[0]] for contents in shown]
    assert ranked[0] != ranked[1], "otherwise this shows nothing"
    orders = [list(contents[4].layout.yaxis.categoryarray) for contents in shown]
    assert orders[0] == orders[1] == ["unmeasured", "fast", HOSTILE, "tfidf-logreg", "disturbed"], "the best on top"


def at_addresses(store: Store, *queries: dict) -> list[tuple[State, dict]]:
    """The state of the page at each of these, and the values that its controls then have, once they have taken them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Gradio leaves event loops open
        found = _at_addresses(store, queries)
        gc.collect()
    return found


def _at_addresses(store, queries):
    shell = Shell(store, MACHINE, Services(), TABS)
    shell.build()
    found = []
    for query in queries:
        state, values = shell._offered_state(read_state(query)), {}
        for (name, control), update in zip(shell._controls.items(), shell._control_updates(state), strict=True):
            control.choices = update.get("choices", getattr(control, "choices", None))
            values[name] = control.preprocess(update["value"])  # raises for a value that is not among the choices
        found.append((state, values))
    return found


def test_what_no_control_offers_counts_as_not_given(store):
    strange = {name: "bogus" for name in ("against", "columns", "methods", "models", "track")}
    partly = {"columns": "bogus;mcc", "models": "bogus;unmeasured", "max_params": "25", "against": "num_params"}
    (plain, _), *found = at_addresses(store, {}, strange | {"max_params": "33"}, partly)
    understood = State(columns=("mcc",), models=("unmeasured",), max_params=25.0, against="num_params")
    assert [state for state, _ in found] == [plain, understood] and plain == State()
    assert [read_state(values) for _, values in found] == [plain, understood], "the controls show the same view"


def test_an_address_keeps_what_a_store_that_cannot_be_read_may_offer_later(store):
    os.truncate(next((Path(store.uri) / "fits").rglob("*.parquet")), 100)
    given = {"track": "toy-set (1,000 training texts)", "models": "unmeasured", "against": "num_params"}
    (state, values), (other, _) = at_addresses(store, given, given | {"against": "bogus"})
    assert state == read_state(given) and other == replace(state, against=State().against)
    assert values["against"] == "num_params" and values["track"] is None


def test_no_tab_shows_a_message_that_may_quote_a_private_text(store):
    """The texts of toy-set are not in this store, so that they may be private."""
    for key in ("leaderboard", "training", "method"):
        (tab,) = (tab for tab in TABS if tab.key == key)
        hidden, shown = (
            str(fill(Reader(store, MACHINE), tab, State(tab=key), Services(show_texts=asked_for)).contents)
            for asked_for in (False, True)
        )
        if key != "training":  # which lists fits that failed; here a measurement did
            assert "second &lt;b" in shown and "RuntimeError" in hidden
        assert "second &lt;b" not in hidden, key


def test_an_empty_store_keeps_a_message_back_too(tmp_path):
    store = Store.open(tmp_path / "results")
    with store.attempt() as attempt:
        failure = {"phase": "fit", "model": "toy", "dataset": "d", "seed": 1, "error_class": "OSError"}
        attempt.fail("a9", {**failure, "message": "cannot read 'a private text'"})
    assert "a private text" not in filled(store).notice
    for key in ("leaderboard", "training"):
        (tab,) = (tab for tab in TABS if tab.key == key)
        shown = fill(Reader(store, MACHINE), tab, State(tab=key), Services(show_texts=True)).notice
        assert "a private text" in shown


@pytest.mark.parametrize("tab", [tab.key for tab in TABS])
def test_a_tab_bears_records_without_specs_points_and_samples(store, tab):
    write_trial(
        store,
        5,
        "bare",
        0.8,
        {"throughput_points": None, "throughput_texts_per_s": None, "memory_peak_batch1_bytes": None},
    )
    shown = filled(store, tab, models=("bare", "unmeasured", "tfidf-logreg"))
    if tab == "compare":
        assert "has no predictions, so that it cannot be paired" in shown.notice
        return
    assert shown.contents is not None and shown.notice == ""
    if tab == "speed":
        assert "Not shown: unmeasured (not measured on the machine shown)" in shown.contents[0]
        assert "bare (no throughput was recorded)" in shown.contents[4]


def test_what_the_form_leaves_open_is_as_the_preset_says():
    assert asked((), (), 0) == {}
    assert asked(["vader"], ["icwsm-movie"], 3) == {
        "models": ("vader",),
        "datasets": ("icwsm-movie",),
        "seeds": (0, 1, 2),
    }
    assert asked(["vader"], (), 1) == {"models": ("vader",), "seeds": (0,)}, "one seed is not the preset's number"


def test_the_app_serves_the_board_to_this_machine_alone(store):
    port = _free_port()
    command = [sys.executable, "app.py", "--store", store.uri, "--port", str(port)]
    behind_a_proxy = os.environ | {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "example.org"}
    app = subprocess.Popen(
        command, cwd=ROOT, env=behind_a_proxy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        _wait(app, f"http://127.0.0.1:{port}/")
        listening = [c.laddr for c in psutil.Process(app.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert [(a.ip, a.port) for a in listening] == [("127.0.0.1", port)]
        config = _json(f"http://127.0.0.1:{port}/config")
        assert {d["api_visibility"] for d in config["dependencies"]} == {"private"}
        (opened,) = (d["id"] for d in config["dependencies"] if d["targets"][0][1] == "load")
        assert Page(_call(port, opened)).tables[0] == cells(view_board(store, MACHINE).board).to_numpy().tolist()
        write_trial(store, 5, "finished-meanwhile", 0.5, {})
        until = time.monotonic() + 60
        while "finished-meanwhile" not in _call(port, opened):
            assert time.monotonic() < until, "a change is seen"
            time.sleep(LOOK_EVERY_S / 2)
    finally:
        app.terminate()
        said = app.communicate(timeout=60)[0]
    assert f"http://127.0.0.1:{port}/" in said and "Traceback" not in said


def test_the_app_refuses_a_folder_of_something_else_in_one_line(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    done = subprocess.run(
        [sys.executable, "app.py", "--store", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "is not a MoodBench store (it holds thesis.tex)" in done.stderr and "Traceback" not in done.stderr


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _call(port: int, fn_index: int) -> str:
    """The table that a callback of the page returns, asked as the page asks."""
    body = {"data": [], "fn_index": fn_index}
    answer = _json(f"http://127.0.0.1:{port}/gradio_api/run/predict", body)["data"]
    html, *_ = (value for value in answer if isinstance(value, str) and "<tbody" in value)
    return html


def _json(url: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return json.load(answer)


def _wait(app: subprocess.Popen, url: str, limit_s: float = 120) -> None:
    """Nothing, once `url` answers with 200."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        assert app.poll() is None, app.communicate()[0]
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except urllib.error.URLError:
            time.sleep(0.2)
    pytest.fail(f"{url} did not answer within {limit_s:.0f} s")
