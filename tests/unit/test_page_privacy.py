"""The page hides private texts and messages that may quote one, unless it was started with --show-texts."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pytest
from toy_store import SECRET

from moodbench.analysis.event_log import follow
from moodbench.app.live import run_html, runner_html
from moodbench.app.privacy import (
    REDACTED,
    failures_table,
    may_quote_private,
    message_filter,
    public_datasets,
    shown_text,
)
from moodbench.app.tab import Services
from moodbench.config import Catalogue, load_catalogue
from moodbench.store import Store
from moodbench.store.schema import EXAMPLES

MESSAGE = f"ValueError: cannot read '{SECRET}'"


def with_texts(store: Store, dataset: str, private: list[bool | None], revision: str = "r1") -> Store:
    rows = [
        {"example_id": f"{i}", "text": "a text", "label": 0, "split": "test", "private": each}
        for i, each in enumerate(private)
    ]
    store.put_examples(dataset, revision, pa.Table.from_pylist(rows, schema=EXAMPLES))
    return store


@pytest.mark.parametrize(
    ("private", "hidden"),
    [
        (False, None),
        (True, "private text: start with --show-texts to see it"),
        (None, "not known whether private: start with --show-texts to see it"),
        (float("nan"), "not known whether private: start with --show-texts to see it"),
    ],
)
def test_a_text_is_shown_where_it_is_known_not_to_be_private_or_on_request(private, hidden):
    row = pd.Series({"text": SECRET, "private": private}, dtype=object)
    assert shown_text(row, show_texts=False) == (hidden or SECRET)
    assert shown_text(row, show_texts=True) == SECRET
    assert shown_text(row.drop("private"), show_texts=False).startswith("not known")


def test_a_dataset_is_public_if_every_text_of_every_revision_is_known_to_be(tmp_path):
    store = Store.open(tmp_path / "results")
    assert public_datasets(store) == frozenset()
    with_texts(store, "public", [False, False])
    with_texts(store, "own", [True, True])
    with_texts(store, "of-an-older-store", [None, None])
    with_texts(store, "mixed", [False, True])
    with_texts(with_texts(store, "changed", [False]), "changed", [True], revision="r2")
    assert public_datasets(store) == {"public"}


def test_texts_that_cannot_be_read_are_not_public(tmp_path):
    store = with_texts(Store.open(tmp_path / "results"), "public", [False])
    next((tmp_path / "results" / "examples").rglob("*.parquet")).write_bytes(b"damaged")
    assert public_datasets(store) == frozenset()


def failures(**changes) -> pd.DataFrame:
    facts = {"model": "toy", "dataset": "own", "seed": 0, "phase": "fit", "error_class": "ValueError"}
    return pd.DataFrame([{**facts, "message": f"cannot read '{SECRET}'", **changes}])


def test_the_message_of_a_failure_is_shown_for_public_datasets_or_on_request():
    may_show = message_filter(frozenset({"public"}), show_texts=False)
    hidden = failures_table(failures(), may_show)
    assert SECRET not in hidden and "ValueError" in hidden and REDACTED in hidden
    for shown in (
        failures_table(failures(dataset="public"), may_show),
        failures_table(failures(), message_filter(frozenset(), show_texts=True)),
    ):
        assert SECRET in shown and REDACTED not in shown
    assert REDACTED not in failures_table(failures(message=None), may_show), "there is no message to hide"


def event(name, **fields):
    return {"event": name, "time": datetime(2026, 1, 1, 12, tzinfo=UTC), **fields}


def run_that_failed(dataset: str, *more):
    trial = f"toy · {dataset} · seed 0"
    events = [event("run_started", num_jobs=1), event("started", trial=trial, phase="fit", node="n"),
              event("failed", trial=trial, phase="fit", error=MESSAGE),
              event("job_ended", trial=trial, outcome="program error", detail=f"Traceback\n{MESSAGE}"), *more]  # fmt: skip
    return follow("r", events, datetime(2026, 1, 1, 12, 1, tzinfo=UTC))


def test_live_shows_the_class_of_an_error_and_its_message_only_for_public_datasets():
    may_show = message_filter(frozenset({"public"}), show_texts=False)
    hidden = run_html(run_that_failed("own"), may_show)
    assert SECRET not in hidden and REDACTED in hidden
    assert "<td>ValueError</td>" in hidden and "toy · own · seed 0: program error</p>" in hidden
    shown = run_html(run_that_failed("public"), may_show)
    assert shown.count(SECRET) == 2 and REDACTED not in shown, "in its row, and as the last error"


def test_live_hides_the_last_output_of_a_worker_and_errors_without_a_class():
    trial = "toy · own · seed 0"
    begun = [event("run_started", num_jobs=1), event("started", trial=trial, phase="fit")]
    lost = event("job_ended", trial=trial, outcome="infrastructure", detail=SECRET, retry=True)
    quarantined = event("node_quarantined", node="worker", detail=SECRET)
    nodes = [event("node_joined", node="other")]
    strange = event("failed", trial=trial, phase="fit", error=f"'{SECRET}': not a number")
    for events, kind in (([lost, quarantined, *nodes], f"{trial}: infrastructure"), ([strange], "error")):
        run = follow("r", [*begun, *events], datetime(2026, 1, 1, 12, 1, tzinfo=UTC))
        html = run_html(run, message_filter(frozenset(), show_texts=False))
        assert SECRET not in html and f"<td>{kind}</td>" in html


class FailedRun:
    """Stands for the run that a page started, which failed."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue, self.state = catalogue, ("failed", f"1 trials failed: {MESSAGE}")


def test_the_card_of_a_failed_run_hides_its_message_if_the_catalogue_has_own_data(tmp_path):
    catalogue = load_catalogue()
    store = with_texts(Store.open(tmp_path / "results"), "public", [False])
    assert not may_quote_private(store, catalogue), "nothing but embedded and hub data"
    run = FailedRun(catalogue)
    assert SECRET in runner_html(store, Services(runner=run))
    own = SimpleNamespace(datasets={"own": SimpleNamespace(file=SimpleNamespace(kaggle=None))})
    of_kaggle = SimpleNamespace(datasets={"theirs": SimpleNamespace(file=SimpleNamespace(kaggle="a/b"))})
    assert may_quote_private(store, own) and not may_quote_private(store, of_kaggle)
    with_texts(store, "own", [True])
    hidden = runner_html(store, Services(runner=run))
    assert SECRET not in hidden and "failed" in hidden and REDACTED in hidden
    assert SECRET in runner_html(store, Services(runner=run, show_texts=True))
