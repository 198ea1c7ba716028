"""Tables, the leaderboard and the live view of a run in a terminal, or as plain text elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, Group, JustifyMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from moodbench.analysis.event_log import NODE_NEWS
from moodbench.report.formatting import (
    COLUMNS,
    MISSING,
    Column,
    cells,
    duration,
    failure_text,
    reference_cells,
    track_facts,
)
from moodbench.report.leaderboard_view import LeaderboardView

if TYPE_CHECKING:
    from moodbench.benchmark.from_store import Repeat

LINE = 160
"""Width of a table without a terminal, in characters; more where its numbers need it."""
WRAPPED = 30
"""Narrowest line into which a left-aligned cell is wrapped, in characters."""
PADDING = 2
REPEAT_HEADINGS = (
    "Model", "Dataset", "Seed", "Texts", "Other label", "Largest logit difference", "Accuracy", "Training s",
)  # fmt: skip
PROGRESS_EVERY_S = 15.0
STATUS_EVERY_S = 30.0
"""Seconds between two lines on one trial, and on the whole run, in plain output."""
LAST_ENDED = 5
"""Number of ended phases that stay in the live table."""
IDLE_CAUSES = {
    "drain": "kept free for measurements",
    "no fit": "without a task that could start",
    "tail": "idle at the end",
}
NODE_EVENTS = {"node_joined": "joined", **NODE_NEWS}


def make_console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or without a terminal as wide as what is printed."""
    made = _Console(stderr=stderr, highlight=False, soft_wrap=False)
    return made if made.is_terminal else _Console(stderr=stderr, highlight=False, width=10_000)


class _Console(Console):
    """A console whose reader may go away, as `head` does; the command then continues without printing."""

    def on_broken_pipe(self) -> None:
        """Print no more; rich's own method would end the command."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def print_leaderboard(view: LeaderboardView, out: Console, columns: Sequence[Column] = COLUMNS) -> None:
    """Print every track of the leaderboard, the notes and the failures."""
    for name in view.tracks:
        rows = view.track(name)
        out.print()
        out.print(Text(name, style="bold").append(f" · {track_facts(rows)}", style="not bold"))
        tables = (cells(rows, columns), reference_cells(view.references_of(name), columns))
        lines = [line for table in tables for line in table.to_numpy().tolist()]
        print_table([c.heading for c in columns], lines, out, left={"Model"})
    for note in view.notes:
        out.print(Text(note, style="dim"), soft_wrap=True)
    print_failures(view, out)


def print_failures(view: LeaderboardView, out: Console) -> None:
    """Print one line per phase that failed or whose record is damaged."""
    if len(view.failures):
        out.print()
        out.print(Text("Failed", style="bold"))
    for _, row in view.failures.iterrows():
        message = str(row["message"]).splitlines()[0] if row["message"] else ""
        out.print(Text(f"  {failure_text(row)}: {message}"), soft_wrap=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], out: Console, *, left: set[str]) -> None:
    """Print a table with numbers right-aligned; cells are printed verbatim, including markup characters.

    Cells of columns in `left` are wrapped where the table is too wide. A table that is still too wide for the terminal
    is printed in parts below each other, each of which repeats the columns up to the first of `left`.
    """
    rows = [list(row) for row in rows]
    lengths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    lead = next((number for number, heading in enumerate(headings) if heading in left), -1) + 1
    whole = lead - 1 if not out.is_terminal else -1  # names in a pipe stay on one line
    needs = [
        PADDING + (length if heading not in left or number == whole else min(length, WRAPPED))
        for number, (heading, length) in enumerate(zip(headings, lengths, strict=True))
    ]
    width = out.width if out.is_terminal else min(out.width, max(LINE, sum(needs)))
    for number, part in enumerate(_parts(needs, width, lead)):
        if number:
            out.print()
        table = Table(box=None, padding=(0, 1), header_style="bold")
        for column in part:
            is_left, least = headings[column] in left, needs[column] - PADDING
            justify: JustifyMethod = "left" if is_left else "right"
            table.add_column(
                Text(headings[column]), justify=justify, no_wrap=not is_left, overflow="fold", min_width=least
            )
        for row in rows:
            table.add_row(*(Text(row[column]) for column in part))
        out.print(table, width=width)


def _parts(needs: Sequence[int], width: int, lead: int) -> list[list[int]]:
    """Return the column numbers of each part; all parts begin with the first `lead` columns.

    A part takes at most `width`, unless a single column needs more.
    """
    available = width - sum(needs[:lead])
    parts: list[list[int]] = [[]]
    taken = 0
    for column in range(lead, len(needs)):
        if parts[-1] and taken + needs[column] > available:
            parts.append([])
            taken = 0
        parts[-1].append(column)
        taken += needs[column]
    return [[*range(lead), *part] for part in parts]


def repeat_rows(repeats: Sequence[Repeat]) -> list[list[str]]:
    """Return one row per repeated trial, under REPEAT_HEADINGS."""
    return [
        [
            r.model,
            r.dataset,
            str(r.seed),
            f"{r.num_texts:,}",
            f"{r.num_flips:,}",
            "0" if r.max_logit_difference == 0 else f"{r.max_logit_difference:.1e}",
            f"{r.accuracy[0]:.4f} → {r.accuracy[1]:.4f}",
            f"{r.train_time_s[0]:.1f} → {r.train_time_s[1]:.1f}",
        ]
        for r in repeats
    ]


def repeat_sentence(repeats: Sequence[Repeat]) -> str:
    """Describe how many repeats gave the same results."""
    if not repeats:
        return "The store has no evaluation of these trials yet, so there is nothing to compare with."
    same = sum(r.max_logit_difference == 0 for r in repeats)
    labels = sum(r.num_flips == 0 for r in repeats)
    return (
        f"{len(repeats)} trials repeated: {same} with identical logits, {labels} with identical labels. "
        "The store keeps the first results."
    )


@dataclass
class TrialState:
    """State of the current phase of one trial."""

    phase: str = "waiting"
    state: str = "waiting"
    started: float = 0.0
    step: int = 0
    num_steps: int = 0
    loss: float | None = None
    last_line: float = 0.0
    node: str = ""

    def remaining_s(self, now: float) -> float | None:
        """Return the ETA of this phase in seconds, at its pace so far; None before there is a pace."""
        if self.state != "running" or not self.step or self.num_steps <= self.step:
            return None
        return (now - self.started) / self.step * (self.num_steps - self.step)


class RunDisplay:
    """Callback that shows the events of a run on `out`; use it as a context manager."""

    def __init__(self, out: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self.trials: dict[str, TrialState] = {}
        """Trials that have begun, in order of their last change of state."""
        self._status = ""
        self._num_nodes = 1
        self._began = self._last_status = clock()
        self._num_committed = 0
        self._live = Live(console=out, refresh_per_second=4, get_renderable=self._view) if out.is_terminal else None

    def __enter__(self) -> RunDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Handle one event."""
        name = event["event"]
        if name == "run_started":
            self._num_nodes = len(event.get("nodes", ()))
            if event["num_done"]:
                self._line(f"{event['num_done']} phases are in the store already and are skipped")
        elif name == "state":
            self._update_status(event)
        elif name in NODE_EVENTS:
            detail = f": {event['detail']}" if event.get("detail") else ""
            self._line(f"node {event['node']} {NODE_EVENTS[name]}{detail}")
        elif name == "note":  # shown in a terminal too, above the live table
            self._out.print(event["detail"], markup=False, highlight=False, soft_wrap=True)
        elif name == "run_ended":
            self._status = ""
            if event.get("lower_bound_s"):  # shown in a terminal too, above the live table
                self._out.print(efficiency_sentence(event), markup=False, highlight=False, soft_wrap=True)
        elif name == "waiting_for_node":
            wait = duration(event["seconds"])
            self._line(f"no node for {event['detail']}; waits up to {wait} for one, then continues without")
        elif "trial" in event and name != "job_started":  # a started job may still wait for resources
            self._update_trial(event)

    def _update_trial(self, event: Mapping[str, Any]) -> None:
        name, key, now = event["event"], event["trial"], self._clock()
        trial = self.trials.get(key, TrialState())
        if name == "progress":
            self._progress(trial, event, now)
            return
        self.trials.pop(key, None)
        self.trials[key] = trial
        if name == "started":
            node = event.get("node", "") if self._num_nodes > 1 else ""
            self.trials[key] = TrialState(event["phase"], "running", now, last_line=now, node=node)
            self._line(f"{key}: {event['phase']} started" + (f" on {node}" if node else ""))
        elif name in ("committed", "skipped"):
            self._num_committed += name == "committed"
            is_heard = (trial.phase, trial.state) == (event["phase"], "running")  # else an attempt cut off did it
            took = f", {duration(now - trial.started)}" if is_heard else ""
            trial.state = "done" if name == "committed" else "skipped"
            self._line(f"{key}: {event['phase']} {name}{took}")
        elif name == "failed":
            trial.state = "failed"
            self._line(f"{key}: {event['phase']} FAILED: {event['error']}")
        elif name == "job_ended" and event["outcome"] != "ok":
            trial.state = "retrying" if event.get("retry") else "failed"
            detail = str(event.get("detail") or "").partition("\n")[0]
            text = event["outcome"] + (f" ({detail})" if detail else "") + (", retrying" if event.get("retry") else "")
            self._line(f"{key}: {text}")

    def _update_status(self, event: Mapping[str, Any]) -> None:
        """Store the status of the whole run; plain output prints it every STATUS_EVERY_S."""
        parts = [f"{event['num_running']} running{self._turns(event.get('num_in_turns') or 0)}"]
        if event.get("num_starting"):
            full = [node + (f", where {free} free" if free else "") for node, free in event["no_room"].items()]
            reason = f"waiting for room on {', '.join(full)}" if full else "starting"
            parts.append(f"{event['num_starting']} {reason}")
        waits = ", ".join(f"{number} for {cause}" for cause, number in event["blocked_on"].items())
        parts.append(f"{event['num_queued']} queued" + (f" ({waits})" if waits else ""))
        parts.append(f"{self._num_committed} phases committed")
        if event["num_failed"]:
            parts.append(f"{event['num_failed']} failed")
        if event["eta_s"] is not None and event["eta_s"] >= 1:
            parts.append(f"at least {duration(event['eta_s'])} left")
        self._status = " · ".join(parts)
        if self._clock() - self._last_status >= STATUS_EVERY_S:
            self._last_status = self._clock()
            self._line(self._status)

    def _turns(self, number: int) -> str:
        """Return how far `number` measurements are that take turns: none has its record before the last turns."""
        measuring = [t for t in self.trials.values() if (t.phase, t.state) == ("measure", "running")]
        num_processes = number * max((t.num_steps or 0 for t in measuring), default=0)
        done = f", {sum(t.step or 0 for t in measuring)} of {num_processes} processes" if num_processes else ""
        return f" ({number} measurements in turns{done})" if number else ""

    def _progress(self, trial: TrialState, event: Mapping[str, Any], now: float) -> None:
        trial.step = event.get("step", trial.step)
        trial.num_steps = event.get("num_steps", trial.num_steps)
        trial.loss = event.get("loss", trial.loss)
        if "note" in event:
            self._line(f"{event['trial']}: {event['note']}")
        if "disturbed_processes" in event:
            again = f"measuring {event['disturbed_processes']} of {trial.num_steps} processes again"
            self._line(f"{event['trial']}: {'; '.join(event['causes'])}; {again} in {event['wait_s']:.0f} s")
        if now - trial.last_line >= PROGRESS_EVERY_S and trial.num_steps:
            trial.last_line = now
            self._line(f"{event['trial']}: {trial.phase} {self._pace(trial, now)}")

    def _pace(self, trial: TrialState, now: float) -> str:
        loss = f", loss {trial.loss:.3f}" if trial.loss is not None else ""
        left = trial.remaining_s(now)
        eta = f", {duration(left)} left" if left is not None else ""
        return f"step {trial.step} of {trial.num_steps}{loss}{eta}"

    def _line(self, text: str) -> None:
        if not self._live:
            self._out.print(f"[{self._clock() - self._began:6.1f} s] {text}", markup=False)

    def _shown(self) -> list[tuple[str, TrialState]]:
        """Return the rows of the live table: the phases that ended last, then all that run or will be retried."""
        going = [(name, trial) for name, trial in self.trials.items() if trial.state in ("running", "retrying")]
        ended = [(name, trial) for name, trial in self.trials.items() if trial.state not in ("running", "retrying")]
        return [*ended[-LAST_ENDED:], *going]

    def _view(self) -> Group:
        return Group(*([Text(self._status, style="italic")] if self._status else []), self._table())

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1), header_style="bold")
        for heading in ("Trial", "Phase", "State", "Node", "Step", "Loss", "Left"):
            table.add_column(heading)
        now = self._clock()
        for name, trial in self._shown():
            step = f"{trial.step}/{trial.num_steps}" if trial.num_steps else MISSING
            loss = f"{trial.loss:.3f}" if trial.loss is not None else MISSING
            table.add_row(
                Text(name), trial.phase, trial.state, trial.node, step, loss, duration(trial.remaining_s(now))
            )
        return table


def efficiency_sentence(event: Mapping[str, Any]) -> str:
    """Describe how well a run that ended used its nodes."""
    took, bound = event["makespan_s"], event["lower_bound_s"]
    text = (
        f"The run took {duration(took)}, {took / bound:.2f} times the lower bound of any schedule of the same work. "
        f"Of the processors' time {event['efficiency']:.0%} went into phases that succeeded"
    )
    if event["failed_attempts_s"]:
        text += f", {event['wasted']:.0%} into attempts that failed ({duration(event['failed_attempts_s'])} of them)"
    if event.get("starting", 0) >= 0.005:
        text += f", {event['starting']:.0%} into starting processes"
    idle = [f"{share:.0%} was {IDLE_CAUSES[why]}" for why, share in event["idle"].items() if share >= 0.005]
    return text + "".join(f", {each}" for each in idle) + "."
