"""What a person reads: figures, tables, progress."""

import io

import pytest
from rich.console import Console

from moodbench.report.formatting import count, duration, mebibytes, milliseconds, percent, three_digits
from moodbench.report.terminal import RunDisplay, print_table


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
        (count, 999_885_952, "1B"),
        (count, 999_400_000, "999M"),
        (count, 999.6, "1k"),
        (count, 1.2e12, "1,200B"),
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


BOARD = (
    ["Rank", "Model", "Score", "Accuracy % [95 %]", "F1 %", "P50 ms"],
    [
        ["1", "MiniLM-L6 (quick)", "35.1", "79.3 [77.5, 81.0]", "79.0", "13.6"],
        ["2", "a", "3.1", "9.3 [7.5, 11.0]", "9.0", "3.6"],
    ],
)


def printed(headings, rows, left, **console) -> list[str]:
    out = io.StringIO()
    print_table(headings, rows, Console(file=out, **console), left=left)
    assert all(len(line) <= console["width"] for line in out.getvalue().splitlines())
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_table_too_wide_for_the_terminal_is_printed_in_parts_that_all_name_their_rows():
    lines = printed(*BOARD, {"Model"}, width=60, force_terminal=True, no_color=True, color_system=None)
    assert lines == [
        " Rank  Model              Score  Accuracy % [95 %]  F1 %",
        "    1  MiniLM-L6 (quick)   35.1  79.3 [77.5, 81.0]  79.0",
        "    2  a                    3.1    9.3 [7.5, 11.0]   9.0",
        "",
        " Rank  Model              P50 ms",
        "    1  MiniLM-L6 (quick)    13.6",
        "    2  a                     3.6",
    ]
    assert len(printed(*BOARD, {"Model"}, width=80, force_terminal=True, color_system=None)) == 3, "it fits"


def test_where_there_is_no_terminal_no_line_of_numbers_is_broken():
    headings = ["Model", *(f"a heading with the number {n}" for n in range(20))]
    (head, row) = printed(headings, [["a" * 50, *"0123456789" * 2]], {"Model"}, width=10_000)
    assert len(head) > 500 and row.split()[0] == "a" * 50


def test_words_break_into_lines_and_numbers_do_not():
    lines = printed(["Model", "Why", "N"], [["a", "many words " * 30, "1,000,000"]], {"Model", "Why"}, width=160)
    assert len(lines) > 3 and lines[1].endswith("1,000,000") and lines[1].startswith(" a      many words")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(*events) -> list[str]:
    out, clock = io.StringIO(), Clock()
    with RunDisplay(Console(file=out, width=200), clock) as view:
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


def test_a_record_that_an_attempt_nobody_heard_of_has_made_is_told_without_a_duration():
    lines = lines_of(
        (1000, {**TRIAL, "event": "started"}),
        (1001, {**TRIAL, "event": "job_ended", "outcome": "infrastructure", "retry": True}),
        (1002, {**TRIAL, "event": "skipped"}),
        (1003, {**TRIAL, "event": "skipped", "trial": "never started"}),
    )
    assert lines[2].endswith("seed 0: fit skipped") and lines[3].endswith("never started: fit skipped")


def test_failures_and_retries_are_told():
    lines = lines_of(
        (0, {**TRIAL, "event": "started"}),
        (1, {**TRIAL, "event": "failed", "error": "ValueError: no [red] good"}),
        (2, {"event": "job_ended", "trial": TRIAL["trial"], "outcome": "program error", "retry": False}),
        (3, {"event": "job_ended", "trial": "other", "outcome": "infrastructure", "retry": True}),
    )
    assert lines[1].endswith("fit FAILED: ValueError: no [red] good")
    assert lines[2].endswith(": program error")
    assert lines[3].endswith("other: infrastructure, retrying")


def standing(**other):
    return {"event": "state", "num_queued": 3, "num_running": 2, "num_ended": 0, "num_failed": 0, "eta_s": None,
            "blocked_on": {"its fit": 2, "room on n2": 1}, **other}  # fmt: skip


def test_plain_output_says_how_the_whole_run_stands_and_what_waits_for_what():
    committed = {"event": "committed", "trial": "t", "phase": "fit"}
    lines = lines_of((5, standing()), (31, committed), (32, standing(num_failed=1, eta_s=250.0)), (40, standing()))
    assert [line.partition("] ")[2] for line in lines if "running" in line] == [
        "2 running · 3 queued (2 for its fit, 1 for room on n2) · 1 phases committed · 1 failed · at least 4 m 10 s left"
    ]


def test_measurements_in_turns_are_no_processes_at_the_same_time():
    (line,) = lines_of((31, standing(num_running=1, num_in_turns=4)))
    assert "] 1 running (4 measurements in turns) · " in line


def test_measurements_in_turns_say_how_many_processes_they_have_had_before_any_of_them_has_its_record():
    begun = [(0, {"event": "started", "trial": trial, "phase": "measure"}) for trial in ("a", "b")]
    told = [
        (1, {"event": "progress", "trial": trial, "step": step, "num_steps": 5}) for trial, step in (("a", 2), ("b", 1))
    ]
    *_, line = lines_of(*begun, *told, (31, standing(num_running=1, num_in_turns=2)))
    assert "] 1 running (2 measurements in turns, 3 of 10 processes) · " in line and "0 phases committed" in line


def test_what_has_not_begun_is_told_apart_from_what_runs_and_why():
    room = {"n2": "0 of 2 CPUs, 1.5 GiB of memory"}
    starting = standing(num_running=1, num_starting=1, no_room={})
    waiting = standing(num_running=1, num_starting=2, no_room=room)
    lines = lines_of((31, starting), (62, waiting))
    assert [line.partition("] ")[2].split(" · ")[:2] for line in lines] == [
        ["1 running", "1 starting"],
        ["1 running", "2 waiting for room on n2, where 0 of 2 CPUs, 1.5 GiB of memory free"],
    ]


ENDED = {"event": "run_ended", "makespan_s": 110.0, "lower_bound_s": 100.0, "efficiency": 0.75, "wasted": 0.08, "starting": 0.02,
         "failed_attempts_s": 22.0, "idle": {"drain": 0.05, "no fit": 0.001, "tail": 0.099}}  # fmt: skip


def test_the_end_of_a_run_says_how_well_it_used_its_nodes():
    (line,) = lines_of((9, ENDED))
    assert line == (
        "The run took 1 m 50 s, 1.10 times the lower bound of any schedule of the same work. Of the processors' time 75% "
        "went into phases that succeeded, 8% into attempts that failed (22 s of them), 2% into starting processes, 5% was kept free for measurements, 10% was "
        "idle at the end."
    )
    assert lines_of((9, {"event": "run_ended", "cancelled": True})) == []


def shown(view) -> list[tuple[str, str]]:
    """The trial and state columns of the live table."""
    trials, _, states, *_ = view._table().columns
    return [(str(trial), str(state)) for trial, state in zip(trials.cells, states.cells, strict=True)]


def test_the_live_table_keeps_what_runs_and_only_the_last_that_ended():
    out = io.StringIO()
    with RunDisplay(Console(file=out, width=200, height=40, force_terminal=True), Clock()) as view:
        view({"event": "run_started", "num_done": 0, "nodes": [{}, {}]})
        for i in range(12):
            view({"event": "job_started", "trial": f"t{i}", "job": "j", "node": "n1"})
        assert shown(view) == [], "they may still wait for room"
        for i in range(12):
            view({"event": "started", "trial": f"t{i}", "phase": "fit", "node": "n1"})
        assert len(shown(view)) == 12
        for i in (3, 0, 1, 2, 9, 8, 7):
            view({"event": "committed", "trial": f"t{i}", "phase": "fit"})
        view({"event": "job_ended", "trial": "t4", "outcome": "deadline", "retry": True})
        view(standing(eta_s=60.0))
        rows = shown(view)
        view._live.refresh()
        view(ENDED)
    assert rows[:5] == [(f"t{i}", "done") for i in (1, 2, 9, 8, 7)]
    assert sorted(rows[5:]) == [
        ("t10", "running"),
        ("t11", "running"),
        ("t4", "retrying"),
        ("t5", "running"),
        ("t6", "running"),
    ]
    printed = out.getvalue()
    assert "7 phases committed" in printed and "at least 1 m 00 s left" in printed
    assert "1.10 times the lower bound" in printed, "a terminal is told too"


def test_a_wait_for_a_node_is_told_with_its_end():
    detail = "a · b · seed 0: needs 1 CPU, but there is no node; and 2 more"
    (line,) = lines_of((7, {"event": "waiting_for_node", "detail": detail, "seconds": 300.0}))
    assert line == f"[   7.0 s] no node for {detail}; waits up to 5 m 00 s for one, then continues without"


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
        "t: infrastructure (node n3 left), retrying",
        "node n5 gets no work: has moodbench 9",
    ]
