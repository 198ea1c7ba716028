"""Answers and refusals of the page belong to what was asked, and name what they are about."""

import asyncio

import pytest
from page_store import MACHINE, Page, filled, four_entries, write_trial

from moodbench.app import live
from moodbench.app.snapshot import SnapshotReader
from moodbench.app.tab import Services
from moodbench.app.try_it import answer, render
from moodbench.app.url_state import State
from moodbench.config import load_catalogue
from moodbench.errors import UsageError
from moodbench.serving.classifier import Prediction
from moodbench.store import Store

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path):
    return four_entries(tmp_path / "results")


@pytest.fixture
def two_datasets(tmp_path):
    store = Store.open(tmp_path / "results")
    for number, dataset in enumerate(("one-set", "other-set")):
        write_trial(store, 2 * number + 1, "tfidf-logreg", 0.6, {}, dataset=dataset)
        write_trial(store, 2 * number + 2, "big", 0.8, {}, dataset=dataset)
    return store


def asked(store, text, **state) -> tuple[str, str]:
    """The answer to `text`, and the note beside it of the models that are shown."""
    services = Services(
        ask=lambda fit, text: (Prediction("positive", 0.75, {"negative": 0.25, "positive": 0.75}, False), 0.002)
    )
    snapshot = SnapshotReader(store, MACHINE).current()
    (html,), (note,) = answer(snapshot, State(**state), services, text), render(snapshot, State(**state), services)
    return html, note


def test_an_answer_carries_its_text_and_its_models(store):
    html, note = asked(store, '"<b>good</b>"\nfilm', models=("unmeasured", "tfidf-logreg"))
    assert 'data-text="&quot;&lt;b&gt;good&lt;/b&gt;&quot;\nfilm"' in html and "All models agree: positive" in html
    models = f'data-models="a4{"0" * 18} a1{"0" * 18}"'
    assert models in html and models in note, "the browser compares the two"
    assert models not in asked(store, "a", models=("unmeasured",))[0]
    assert "b" not in Page(html).tags, "a text is no markup"


@pytest.mark.parametrize("text", ["", "  ", None, 7, ["a"]])
def test_nothing_to_label_is_said_beside_the_same_text(store, text):
    html, _ = asked(store, text)
    assert "Write a text first." in html and f'data-text="{text if isinstance(text, str) else ""}"' in html


class Runner:
    """A runner that is busy, or notes what it is asked to start."""

    def __init__(self, busy=False):
        self.catalogue, self.busy, self.started = load_catalogue(), busy, []

    @property
    def state(self):
        return ("running", "Run x is in progress.") if self.busy else ("idle", "")

    def start(self, spec):
        if self.busy:
            raise UsageError("a run is already in progress")
        self.busy = True
        self.started.append(spec)


def test_what_the_timer_renders_again_does_not_hold_the_refusal_of_a_request(tmp_path):
    runner = Runner()
    services = Services(runner=runner)
    layout = built_form(services)
    start, cancel, changed = layout.actions
    assert start.outputs[0] not in layout.outputs and start.outputs[1] is layout.outputs[0]
    assert cancel.outputs == start.outputs and changed.outputs == [start.outputs[0]]
    assert len(changed.events) == 4, "any field of the form removes it"
    store = Store.open(tmp_path)
    with pytest.raises(UsageError, match="Nothing to run"):
        start.run(store, State(), services, "", [], [], 0)
    with pytest.raises(UsageError, match="Seeds: 11; allowed is a whole number from 0 to 10"):
        start.run(store, State(), services, "quickstart", [], [], 11)
    with pytest.raises(UsageError, match="unknown model 'vadr': did you mean 'vader'"):
        start.run(store, State(), services, "quickstart", ["vader", "vadr"], None, 0)
    with pytest.raises(UsageError, match="unknown dataset 'icwsm-movies': did you mean 'icwsm-movie'"):
        start.run(store, State(), services, "", ["vader"], ["icwsm-movies"], 0)
    with pytest.raises(UsageError, match="unknown model '/etc'"):
        start.run(store, State(), services, "", ["/etc"], ["icwsm-movie"], 0)
    assert runner.started == []
    refusal, status = start.run(store, State(), services, "quickstart", ["vader", "vader"], None, 2)
    assert refusal == "" and "Started here: running" in status
    assert [(spec.models, spec.seeds) for spec in runner.started] == [(("vader",), (0, 1))]
    assert changed.run(store, State(), services) == [""]


def built_form(services):
    import gradio

    from moodbench.app.tab import Layout

    async def built():
        layout = Layout()
        with gradio.Blocks(analytics_enabled=False):
            live.build(layout, services)
        return layout

    return asyncio.run(built())  # without a running loop, Gradio makes loops that nobody closes


def test_a_refused_limit_gives_no_pick_and_is_in_the_address(store):
    shown = filled(store, "which", max_p99_ms=-5.0, min_accuracy_percent=150.0)
    (html,) = shown.outputs
    assert "Maximum latency, ms: -5; allowed is a number above 0, or nothing for no limit." in html
    assert "Minimum accuracy, %: 150; allowed is a number from 0 to 100" in html
    assert "<h3>" not in html and "max_p99_ms=-5" in shown.address


def test_speed_and_training_name_the_dataset_that_they_show(two_datasets):
    one, other = "one-set (1,000 training texts)", "other-set (1,000 training texts)"
    said = f"Shown: {one}, as overall (2 datasets) has no values of its own here"
    for key, place, caption in (
        ("speed", 0, "Measurements on {}, one seed"),
        ("training", 2, "Fits of the models shown, on {}"),
    ):
        overall = filled(two_datasets, key).outputs[place]
        assert said in overall and caption.format(one) in overall
        chosen = filled(two_datasets, key, track=other).outputs[place]
        assert "Shown:" not in chosen and caption.format(other) in chosen


def test_the_weights_in_the_notes_have_one_decimal_and_sum_to_100(store):
    notes = filled(store, accuracy=60, f1=30, throughput=20, latency=20).outputs[6]
    assert "weights 46.1% accuracy, 23.1% f1, 15.4% throughput, 15.4% latency." in notes
    assert "weights 30% accuracy, 30% f1, 20% throughput, 20% latency." in filled(store).outputs[6]
