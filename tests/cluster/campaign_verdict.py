"""What a campaign of faults must show, and how what it showed is judged and printed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from hosts import Hosts

from moodbench.store import Store

ROUNDS = (
    ("power", "worker"),
    ("worker", "cut and late"),
    ("raylet", "driver", "worker"),
    ("full disk", "worker"),
    ("hang", "worker"),
    ("memory", "worker"),
    ("cut", "driver", "power"),
    ("head", "worker"),
    ("driver", "driver", "worker"),
    ("worker", "raylet", "power"),
    ("two drivers", "worker", "power"),
    ("cut and healed", "worker"),
    ("driver", "measuring power", "measuring worker"),
    ("not shared",),
)
"""What is done to each run, one after another."""
KINDS_OF_FAULT = frozenset(
    kind if not kind.startswith("measuring ") else f"{kind.removeprefix('measuring ')} while measuring"
    for kinds in ROUNDS
    for kind in kinds
)
"""What a whole campaign must have done at least once."""
MIN_FAULTS = 30
NOTICED_WITHIN_S = 60
"""A silent partition."""
OURS = ("moodbench.worker", "speed_process", "moodbench run", "ray::")
"""What the command lines of our processes hold; the last begins the title that Ray gives an actor."""
RAYS_OWN = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Titles of processes that Ray keeps for the next one, and of its agents: they stay for as long as the node does."""
NODES_OF_CAMPAIGN = ("n1", "n2", "n3", "n4")


@dataclass
class Fault:
    """One fault and what it did."""

    round: int
    kind: str
    node: str = ""
    noticed_s: float | None = None


@dataclass
class RoundResult:
    """How a round ended."""

    round: int
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0
    num_starts: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    duplicates: int = 0
    verify: int = 0
    left_over: list[str] = field(default_factory=list)
    """Node and command line of each process of ours that was still there."""
    missed: list[str] = field(default_factory=list)
    """Kinds of fault that were meant and struck nothing."""


def left_over(hosts: Hosts, seconds: float = 15) -> list[str]:
    """Node and command line of each process of ours that is still there some seconds after the last run ended."""
    end = time.monotonic() + seconds
    while True:
        found = [
            f"{node}: {line}"
            for node in NODES_OF_CAMPAIGN
            for line in hosts.command_lines(node)
            if any(word in line for word in OURS) and not any(word in line for word in RAYS_OWN)
        ]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.5)


def same_predictions(store: Store, reference: Store, id_: str) -> bool:
    """Whether both stores hold the same prediction of every text."""
    if id_ not in reference.ids("evaluations"):
        return False
    a, b = (s.predictions([id_]).set_index("example_id").sort_index() for s in (store, reference))
    logits = (np.stack(frame["logits"].to_list()) for frame in (a, b))
    return bool(a.index.equals(b.index) and np.allclose(*logits, atol=1e-4))


def table(results: list[RoundResult]) -> str:
    """The summary, one line per round and the sums."""
    lines = [
        "round  faults (seconds until noticed)                                         runs  lost  doubled  wrong  duplicates kept  verify  left over"
    ]
    for r in results:
        names = ", ".join(
            f"{f.kind} {f.node}" + (f" ({f.noticed_s:.0f} s)" if f.noticed_s is not None else "") for f in r.faults
        )
        lines.append(f"{r.round:5}  {names:70} {r.num_starts:8} {r.lost:5} {r.doubled:8} {r.wrong:6} {r.duplicates:16} "
                     f"{'ok' if r.verify == 0 else 'FAILED':>7} {len(r.left_over):10}")  # fmt: skip
    faults = [f for r in results for f in r.faults]
    cuts = [f.noticed_s for f in faults if f.kind.startswith("cut") and f.noticed_s is not None]
    lines.append(
        f"{len(faults)} faults in {len(results)} rounds ({sum(r.seconds for r in results) / 60:.1f} min): "
        f"{sum(r.lost for r in results)} lost, {sum(r.doubled for r in results)} doubled, {sum(r.wrong for r in results)} wrong; "
        f"verify failed {sum(r.verify != 0 for r in results)} times, {sum(len(r.left_over) for r in results)} processes left over"
        + (f"; silent partitions noticed within {max(cuts):.0f} s" if cuts else "")
    )
    return "\n".join(lines)


def shortfalls(results: list[RoundResult]) -> list[str]:
    """Why the campaign does not prove what it is to prove, a sentence each; none where it does.

    Any rounds: nothing lost, doubled, wrong or left over, every fault struck, every partition noticed in time, and late work
    kept as a duplicate. All rounds: so many faults, and every kind of them.
    """
    said = []
    for r in results:
        for what in ("lost", "doubled", "wrong"):
            if getattr(r, what):
                said.append(f"round {r.round}: {getattr(r, what)} {what}")
        said += [f"round {r.round}: left over on {line}" for line in r.left_over]
        if r.verify:
            said.append(f"round {r.round}: moodbench store verify ended with {r.verify}")
        said += [f"round {r.round}: {kind} struck nothing" for kind in r.missed]
        if any(fault.kind == "cut and late" for fault in r.faults) and not r.duplicates:
            said.append(f"round {r.round}: a cut node finished late, and no duplicate was kept")
    faults = [fault for r in results for fault in r.faults]
    for fault in faults:
        if fault.kind.startswith("cut") and (fault.noticed_s is None or fault.noticed_s >= NOTICED_WITHIN_S):
            noticed = "was not timed" if fault.noticed_s is None else f"took {fault.noticed_s:.0f} s to notice"
            said.append(f"round {fault.round}: {fault.kind} {fault.node} {noticed}, allowed are {NOTICED_WITHIN_S} s")
    if {r.round for r in results} >= set(range(1, len(ROUNDS) + 1)):
        if len(faults) < MIN_FAULTS:
            said.append(f"{len(faults)} faults, expected at least {MIN_FAULTS}")
        never = sorted(KINDS_OF_FAULT - {fault.kind for fault in faults})
        said += [f"{kind}: never injected" for kind in never]
    return said


def good(results: list[RoundResult]) -> bool:
    """True when nothing is missing: see `shortfalls`."""
    return not shortfalls(results)
