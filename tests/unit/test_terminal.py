"""What a person reads: figures, tables, progress."""

import io

import pytest
from rich.console import Console

from moodbench.visualization.formatting import count, duration, mebibytes, milliseconds, percent, three_digits
from moodbench.visualization.live import RunView
from moodbench.visualization.terminal import print_table


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (percent, 0.8345, "83.5"),
        (percent, None, "—"),
        (percent, float("nan"), "—"),
        (milliseconds, 0.0139, "13.9"),
        (milliseconds, 0.00000412, "0.004"),
        (milliseconds, 1.5, "1,500"),
        (three_digits, 203.4, "203"),
        (three_digits, 1_182_873.2, "1,182,873"),
        (three_digits, 5.271, "5.27"),
        (mebibytes, 949 * 2**20, "949"),
        (count, 22_713_986, "22.7M"),
        (count, 3_821_079_552, "3.82B"),
        (count, 9_346, "9.35k"),
        (count, 2, "2"),
        (duration, 0.31, "0.3 s"),
        (duration, 59.6, "1 m 00 s"),
        (duration, 192.2, "3 m 12 s"),
        (duration, 3725, "62 m 05 s"),
    ],
)
def test_numbers_read_well(show, value, text):
    assert show(value) == text


def test_signs_of_markup_in_names_and_messages_are_shown_as_they_are():
    out = io.StringIO()
    print_table(["a [b]"], [["[/bold] [red]"]], Console(file=out, width=80), left=set())
    assert "a [b]" in out.getvalue() and "[/bold] [red]" in out.getvalue()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(*events) -> list[str]:
    out, clock = io.StringIO(), Clock()
    with RunView(Console(file=out, width=200), clock) as view:
        for seconds, event in events:
            clock.now = seconds
            view(event)
    return out.getvalue().splitlines()


TRIAL = {"trial": "[bert] · movie · seed 0", "job": "j", "phase": "fit"}


def test_progress_tells_step_loss_and_time_left_at_the_pace_so_far():
    lines = lines_of(
        (0, {"event": "run_started", "num_done": 2}),
        (10, {**TRIAL, "event": "started"}),
        (30, {**TRIAL, "event": "progress", "step": 20, "num_steps": 100, "loss": 0.5}),
        (31, {**TRIAL, "event": "progress", "step": 21, "num_steps": 100, "loss": 0.4}),
        (70, {**TRIAL, "event": "committed"}),
    )
    assert lines == [
        "[   0.0 s] 2 phases are in the store already and are skipped",
        "[  10.0 s] [bert] · movie · seed 0: fit started",
        "[  30.0 s] [bert] · movie · seed 0: fit step 20 of 100, loss 0.500, 1 m 20 s left",
        "[  70.0 s] [bert] · movie · seed 0: fit committed, 1 m 00 s",
    ]


def test_failures_and_retries_are_told():
    lines = lines_of(
        (0, {**TRIAL, "event": "started"}),
        (1, {**TRIAL, "event": "failed", "error": "ValueError: no [red] good"}),
        (2, {"event": "job_ended", "trial": TRIAL["trial"], "outcome": "program error", "retry": False}),
        (3, {"event": "job_ended", "trial": "other", "outcome": "infrastructure", "retry": True}),
    )
    assert lines[1].endswith("fit FAILED: ValueError: no [red] good")
    assert lines[2].endswith(": program error")
    assert lines[3].endswith("other: infrastructure, trying again")


def standing(**other):
    return {"event": "state", "num_queued": 3, "num_running": 2, "num_ended": 0, "num_failed": 0, "eta_s": None,
            "blocked_on": {"its fit": 2, "room on n2": 1}, **other}  # fmt: skip


def test_plain_output_says_how_the_whole_run_stands_and_what_waits_for_what():
    committed = {"event": "committed", "trial": "t", "phase": "fit"}
    lines = lines_of((5, standing()), (31, committed), (32, standing(num_failed=1, eta_s=250.0)), (40, standing()))
    assert [line.partition("] ")[2] for line in lines if "running" in line] == [
        "2 running · 3 queued (2 for its fit, 1 for room on n2) · 1 phases committed · 1 failed · at least 4 m 10 s left"
    ]


def test_a_wait_for_a_node_is_told_with_its_end():
    detail = "a · b · seed 0: needs 1 CPU, and no node is there; and 2 more"
    (line,) = lines_of((7, {"event": "waiting_for_node", "detail": detail, "seconds": 300.0}))
    assert line == f"[   7.0 s] no node for {detail}; waits 5 m 00 s for one, then goes on without"


def test_what_happens_to_nodes_is_told():
    nodes = [{"name": "n2"}, {"name": "n3"}]
    lines = lines_of(
        (0, {"event": "run_started", "num_done": 0, "nodes": nodes}),
        (1, {"event": "started", "trial": "t", "phase": "fit", "node": "n3"}),
        (2, {"event": "node_left", "node": "n3"}),
        (
            3,
            {
                "event": "job_ended",
                "trial": "t",
                "outcome": "infrastructure",
                "detail": "node n3 left\nmore",
                "retry": True,
            },
        ),
        (4, {"event": "node_refused", "node": "n5", "detail": "has moodbench 9"}),
    )
    assert [line.partition("] ")[2] for line in lines] == [
        "t: fit started on n3",
        "node n3 left the cluster",
        "t: infrastructure (node n3 left), trying again",
        "node n5 gets no work: has moodbench 9",
    ]
