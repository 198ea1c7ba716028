import json
from datetime import UTC, datetime, timedelta

import pytest

from moodbench.analysis.event_log import current_runs, follow
from moodbench.app.live import run_html
from moodbench.store import Store


def html_of(run):
    """The run as the page shows it where nothing is private."""
    return run_html(run, lambda dataset: True)


BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)
A, B, C = (f"{model} · toy · seed 0" for model in ("small", "small", "big"))
B = "small · toy · seed 1"


def at(seconds):
    return BEGAN + timedelta(seconds=seconds)


def event(seconds, name, **fields):
    return {"event": name, "time": at(seconds), **fields}


def going():
    """A ended after 40 s; B is at step 5 of 20 after 10 s; C's worker was lost and comes again; 10 jobs in all."""
    return [
        event(0, "run_started", num_jobs=10, num_done=3),
        event(0, "started", trial=A, phase="fit"),
        event(20, "progress", trial=A, phase="fit", step=1, num_steps=2, loss=0.7),
        event(40, "committed", trial=A, phase="fit"),
        event(40, "job_ended", trial=A, outcome="ok"),
        event(40, "started", trial=B, phase="fit"),
        event(50, "progress", trial=B, phase="fit", step=5, num_steps=20, loss=0.5),
        event(41, "started", trial=C, phase="fit"),
        event(50, "job_ended", trial=C, outcome="infrastructure", detail="x\nended by signal 9", retry=True),
    ]


def test_a_run_is_told_by_its_events():
    run = follow("r", going(), at(50))
    assert [(j.trial, j.state, j.share) for j in run.jobs] == [
        (A, "done", 1.0),
        (B, "running", 0.25),
        (C, "retrying", None),
    ]
    assert (run.num_jobs, run.num_done_before, run.num_jobs_ended, run.num_failed) == (10, 3, 1, 0)
    assert run.last_error == f"{C}: infrastructure: ended by signal 9"
    assert run.is_active and run.jobs[1].losses == [0.5]


def test_what_is_left_is_a_range_from_its_own_pace_and_its_like():
    run = follow("r", going(), at(50))
    # Its own pace: 10 s for 5 steps, so 30 s for 15 more. Its like took 40 s, of which 10 are gone: 30 s.
    assert run.remaining_s(run.jobs[1]) == pytest.approx((30, 30))
    later = follow("r", going(), at(60))  # no step since: 20 s for 5 steps is 60 s more; 40 - 20 = 20 s
    assert later.remaining_s(later.jobs[1]) == pytest.approx((20, 60))
    assert later.remaining_s(later.jobs[0]) is None


def test_a_silent_job_is_stalled_and_then_stopped():
    states = [follow("r", going(), at(50 + quiet)).jobs[1].state for quiet in (119, 121, 601)]
    assert states == ["running", "stalled", "stopped"]
    assert not follow("r", going(), at(700)).is_active


def test_a_slow_speaker_is_not_stalled_before_three_of_its_pauses():
    events = [event(0, "run_started"), event(0, "started", trial=A, phase="fit"),
              event(100, "progress", trial=A, phase="fit", step=1, num_steps=9)]  # fmt: skip
    assert [follow("r", events, at(100 + s)).jobs[0].state for s in (299, 301)] == ["running", "stalled"]


def test_a_failure_ends_the_trials_phase_with_its_error():
    events = [*going(), event(55, "failed", trial=B, phase="fit", error="OSError: disk full"),
              event(55, "job_ended", trial=B, outcome="program error", detail="")]  # fmt: skip
    run = follow("r", events, at(56))
    assert (run.jobs[1].state, run.jobs[1].error, run.num_failed) == ("failed", "OSError: disk full", 1)


def test_an_ended_run_leaves_no_job_running():
    run = follow("r", [*going(), event(60, "run_ended")], at(61))
    assert run.jobs[1].state == "stopped" and not run.is_active and run.remaining_run_s() is None


def test_what_is_not_known_or_half_written_is_passed_over(tmp_path):
    store = Store.open(tmp_path / "results")
    assert current_runs(store) == []
    folder = tmp_path / "results" / "events"
    folder.mkdir(parents=True)
    lines = [json.dumps({k: v for k, v in e.items() if k != "time"} | {"at": e["time"].isoformat()}) for e in going()]
    other = json.dumps({"at": at(50).isoformat(), "event": "something_new", "trial": B})
    text = "\n".join([*lines, other, "[1]", '{"event": 3, "at": "never"}', lines[0][:20]])
    (folder / "20260101T120000-aa.jsonl").write_text(text)
    (folder / "20250101T120000-aa.jsonl").write_text("")
    (run,) = current_runs(store, at(50))
    assert run.run_id == "20260101T120000-aa" and len(run.jobs) == 3


def test_nothing_in_a_log_becomes_markup():
    nasty = "<img src=x> · toy · seed 0"
    events = [event(0, "run_started", num_jobs=1), event(0, "started", trial=nasty, phase="fit", node="<b>"),
              event(1, "failed", trial=nasty, phase="fit", error="<script>")]  # fmt: skip
    html = html_of(follow("<i>", events, at(2)))
    assert not {"<img", "<b>", "<script", "<i>"} & {html[i : i + n] for i in range(len(html)) for n in (3, 4, 7)}


def test_a_cancelled_run_is_not_called_ended():
    run = follow("r", [*going(), event(60, "run_ended", cancelled=True)], at(61))
    assert run.cancelled and ": cancelled</h3>" in html_of(run)
    assert ": ended</h3>" in html_of(follow("r", [*going(), event(60, "run_ended")], at(61)))


def test_what_waits_and_for_what_is_told_with_the_runs_own_estimate():
    state = event(55, "state", num_running=2, num_queued=7, blocked_on={"memory": 5, "<gpu>": 2}, eta_s=90.0)
    html = html_of(follow("r", [*going(), state], at(56)))
    assert (
        "1 of 10 jobs ended, 3 phases were already in the store; at least 1 m 29 s left; "
        "2 running, 7 queued (5 waiting for memory, 2 waiting for &lt;gpu&gt;)"
    ) in html
    assert follow("r", [event(0, "run_started"), event(500, "state")], at(900)).is_active, (
        "it speaks, though no job does"
    )


def in_turns(eta_s, seconds=200):
    """Two fits of 40 and 60 s ended; since then four measurements take turns, and none has ended."""
    ended = [
        made
        for trial, begin, end in ((A, 0, 40), (B, 0, 60))
        for made in (event(begin, "started", trial=trial, phase="fit"), event(end, "committed", trial=trial, phase="fit"),
                     event(end, "job_ended", trial=trial, outcome="ok"))
    ]  # fmt: skip
    state = event(seconds, "state", num_running=1, num_in_turns=4, num_queued=0, eta_s=eta_s)
    return follow("r", [event(0, "run_started", num_jobs=6), *ended, state], at(seconds + 10))


def test_there_is_one_time_left_which_falls_while_no_job_ends():
    # The lengths 40 and 60 have a mean of 50 and a standard deviation of 14.14, so the mean is known to 20 %.
    assert in_turns(110.0).remaining_run_s() == pytest.approx((100, 140))
    assert in_turns(60.0, 250).remaining_run_s() == pytest.approx((50, 70)), "50 s later 50 s less"
    html = html_of(in_turns(110.0))
    assert "2 of 6 jobs ended; 1 m 40 s to 2 m 20 s left; 1 running (4 measurements in turns), 0 queued" in html
    assert html.count(" left") == 1
    assert in_turns(5.0).remaining_run_s() == (0, 0) and " left" not in html_of(in_turns(5.0))
    # Without the driver's: 2 jobs in 210 s, so 420 s for 4 more.
    assert in_turns(None).remaining_run_s() == pytest.approx((300, 588))


def test_nodes_are_shown_with_what_became_of_them():
    nodes = [{"name": "head", "kind": "cpu", "num_cpus": 8}, {"name": "worker", "kind": "cpu", "num_cpus": 4}]
    events = [event(0, "run_started", nodes=nodes), event(1, "node_joined", node="late"), event(2, "node_left", node="worker"),
              event(3, "node_refused", node="old", detail="Python 3.9")]  # fmt: skip
    run = follow("r", events, at(4))
    assert dict(run.nodes) == {
        "head": "8 cores", "worker": "left the cluster", "late": "joined", "old": "gets no work: Python 3.9",
    }  # fmt: skip
    assert "left the cluster" in html_of(run)


def test_every_run_under_way_is_shown_and_of_the_others_the_newest(tmp_path):
    folder = tmp_path / "results" / "events"
    folder.mkdir(parents=True)

    def write(name, *events):
        lines = [
            json.dumps({k: v for k, v in e.items() if k != "time"} | {"at": e["time"].isoformat()}) for e in events
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))

    write("1-ended", event(0, "run_started"), event(1, "run_ended"))
    write("2-going", event(0, "run_started", num_jobs=3), event(90, "state"))
    write("3-silent", event(-9000, "run_started"))
    write("4-newest", event(5, "run_started"), event(6, "run_ended"))
    store = Store.open(tmp_path / "results")
    assert [run.run_id for run in current_runs(store, at(100))] == ["4-newest", "2-going"]
