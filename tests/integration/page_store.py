"""A small store with all that a page must bear, and what its tests read from what the page returns."""

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

from moodbench.app.page import TABS, TabContent, render_tab
from moodbench.app.snapshot import SnapshotReader
from moodbench.app.tab import Services
from moodbench.app.url_state import State
from moodbench.hardware import Hardware
from moodbench.report.formatting import COLUMNS
from moodbench.store import Store

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


def four_entries(folder: Path) -> Store:
    """Four entries: clean, disturbed and without a P99, one whose measuring failed, one that is not measured."""
    made = Store.open(folder)
    write_trial(made, 1, "tfidf-logreg", 0.76, {})
    write_trial(made, 2, "disturbed", 0.82, {"verdict": "contaminated", "latency_p99_s": None})
    failed = write_trial(made, 3, HOSTILE, 0.70, None)
    write_trial(made, 4, "unmeasured", 0.60, None)
    with made.attempt() as attempt:
        message = "<script>alert('worker')</script>\nsecond <b>line</b>"
        failure = {"phase": "measure", "model": HOSTILE, "dataset": "toy-set", "seed": 0, "fit_id": failed}
        attempt.fail("c3" + "0" * 18, failure | {"error_class": "RuntimeError", "message": message})
    return made


def filled(store: Store, key: str = "leaderboard", **state) -> TabContent:
    """What one tab shows."""
    (tab,) = (tab for tab in TABS if tab.key == key)
    return render_tab(SnapshotReader(store, MACHINE), tab, State(tab=key, **state), Services())
