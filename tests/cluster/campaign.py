"""Faults injected into a real cluster, and a table of what became of every trial.

    python tests/cluster/campaign.py                    # all of it: at least 30 faults, about 20 minutes on 2 cores; needs root
    python tests/cluster/campaign.py --part 1/3 --summary FILE    # a third; each part adds to FILE and prints the whole table;
                                                        # the first keeps its undisturbed run in FILE.undisturbed for the others

After each round: every trial has exactly one record of each kind, its predictions are those of an undisturbed run, `moodbench
verify` is green, and no process of ours is left on any node.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from hosts import HEAD, Hosts, events_of, first, missing, wait_for

from moodbench.store import Store

KINDS = ("fits", "evaluations", "measurements")
SPEC = """
models: [MiniLM-L3, tfidf-logreg, vader]
datasets: [icwsm-tweets, icwsm-product]
max_train_examples: 96
max_validation_examples: 48
protocol: short
train: {epochs: 1, evaluations_per_epoch: 1}
"""
CONFIG = """
evaluation:
  protocols:
    short: {processes: 1, requests: 50, window_requests: 25, warmup_s: 0, batch_sizes: [1, 8], batch_seconds: 0.1,
            batch_repeats: 1, max_attempts: 1, backoff_s: 0, quick: true}
"""
CLASSES = "drain_at: 2\nnode_return_s: 60\ndeadline: {factor: 0.01, extra_s: 200}\n"
NUM_TRIALS = 6
ROUNDS = (
    ("power", "worker"),
    ("cut and late", "worker"),
    ("raylet", "driver", "worker"),
    ("full disk", "worker"),
    ("hang", "worker"),
    ("memory", "memory"),
    ("cut", "driver", "power"),
    ("head", "worker"),
    ("driver", "driver", "worker"),
    ("raylet", "power", "worker"),
    ("two drivers", "worker", "power"),
    ("cut and healed", "worker"),
    ("measuring power", "measuring worker", "driver"),
    ("not shared",),
)
"""What is done to each run, one after another."""


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
    left_over: int = 0


class Round:
    """One run with its faults."""

    def __init__(self, hosts: Hosts, number: int, faults: tuple[str, ...], folder: Path, rng: random.Random) -> None:
        self.hosts, self.kinds, self.folder, self.rng = hosts, faults, folder, rng
        self.store = folder / "store"
        self.result = RoundResult(number)
        self._seen = 0
        self._to_restore: set[str] = set()
        folder.mkdir(parents=True)

    def play(self, reference: Store | None) -> RoundResult:
        """What came of it."""
        began = time.monotonic()
        if self.kinds == ("not shared",):
            self._not_shared()
        self.driver = self._start()
        others = []
        for kind in self.kinds:
            if kind == "two drivers":
                others.append(self._start())
                self.result.faults.append(Fault(self.result.round, kind))
            elif kind != "not shared":
                self._inject(kind)
        for process in [self.driver, *others]:
            self._finish(process)
        self._restore()
        self.result.seconds = time.monotonic() - began
        self._judge(reference)
        return self.result

    def _start(self) -> Any:
        self.result.num_starts += 1
        self._seen = len(events_of(self.store))
        return self.hosts.popen("n1", *self._command(), log=self.folder / "driver.log")

    def _command(self, store: Path | None = None) -> list[str]:
        root = self.folder.parent
        return ["-m", "moodbench", "run", str(root / "spec.yaml"), "--config", str(root / "config.yaml"),
                "--cluster", str(root / "classes.yaml"), "--address", f"{HEAD}:6379", "--store", str(store or self.store)]  # fmt: skip

    def _news(self) -> list[dict[str, Any]]:
        return events_of(self.store)[self._seen :]

    def _inject(self, kind: str) -> None:
        """Waits for the moment, does it, waits until it was noticed."""
        phase = "measure" if kind.startswith("measuring") else "fit"
        kind = kind.removeprefix("measuring ")
        target = self._target(phase, kind)
        if target is None:
            return  # this run has ended before there was anything to disturb: counts as no fault
        node, event = target["node"].removeprefix(f"{self.hosts.name}-"), target
        fault = Fault(self.result.round, kind if phase == "fit" else f"{kind} while measuring", node)
        time.sleep(self.rng.uniform(0.5, 2.5))
        workers = self.hosts.processes(node, "moodbench.worker")
        at = time.monotonic()
        if kind == "power":
            self.hosts.power_off(node)
            self._to_restore.add(node)
        elif kind == "raylet":
            self.hosts.kill_raylet(node)
            self._to_restore.add(node)
        elif kind.startswith("cut"):
            if kind == "cut and late":
                self._signal(workers, signal.SIGSTOP)
            self.hosts.cut(node)
            self._to_restore.add(node)
        elif kind == "worker":
            self._signal(workers, signal.SIGKILL)
        elif kind == "hang":
            self._signal(workers, signal.SIGSTOP)
        elif kind == "full disk":
            self._mount(node)
        elif kind == "driver":
            self._kill_driver()
            self.driver = self._start()
            self.result.faults.append(fault)
            return
        elif kind == "head":
            self.hosts.kill_gcs()
            code = self.driver.wait(timeout=120)
            fault.noticed_s = time.monotonic() - at
            assert code != 0, "a driver without its head must not claim success"
            self.hosts.restart_head()
            self.driver = self._start()
            self.result.faults.append(fault)
            return
        noticed = self._noticed(event, at)
        fault.noticed_s = noticed
        if kind == "cut and late":
            wait_for(lambda: self._again(event), 240, "second attempt")
            self._signal(workers, signal.SIGCONT)
        if kind == "cut and healed":
            self.hosts.heal(node)
        if kind == "full disk":
            self._unmount(node)
        if noticed is not None or kind == "worker":
            self.result.faults.append(fault)

    def _target(self, phase: str, kind: str) -> dict[str, Any] | None:
        """The start of a phase that still goes on, of a model that takes long enough; None when the run ends first."""
        used = {fault.node for fault in self.result.faults if fault.kind in ("power", "raylet")}
        end = time.monotonic() + 240
        while time.monotonic() < end and self.driver.poll() is None:
            events = self._news()
            over = {e["id"] for e in events if e["event"] in ("committed", "failed", "skipped")}
            for event in reversed(events):
                if event["event"] != "started" or event["phase"] != phase or event["id"] in over:
                    continue
                small = event["node"].endswith("n4")
                if event["node"] in {f"{self.hosts.name}-{n}" for n in used}:
                    continue
                if phase == "measure" or ("MiniLM" in event["trial"] and (small == (kind == "memory"))):
                    return event
            time.sleep(0.2)
        return None

    def _noticed(self, target: dict[str, Any], at: float) -> float | None:
        """Seconds until the driver told that the attempt had ended badly; None when it ended well before."""

        def look() -> Any:
            after = [e for e in self._news() if e["at"] > target["at"]]
            bad = [e for e in after if e["event"] == "job_ended" and e["job"] == target["job"] and e["outcome"] != "ok"]
            return (
                bad
                or first(after, event="job_ended", job=target["job"], outcome="ok")
                or self.driver.poll() is not None
            )

        found = wait_for(look, 330, f"end of {target['trial']} on {target['node']}")
        return time.monotonic() - at if isinstance(found, list) else None

    def _again(self, target: dict[str, Any]) -> bool:
        return any(
            e["event"] in ("started", "skipped") and e.get("id") == target["id"] and e["at"] > target["at"]
            for e in self._news()
        )

    def _signal(self, processes: list[int], number: int) -> None:
        for process in processes:
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue

    def _mount(self, node: str) -> None:
        """A disk of 64 KiB, and nothing free on it, where `node` keeps what it has not committed."""
        staging = str(self.store / "staging")
        code = (
            f"import subprocess; subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', {staging!r}], check=True)\n"
            f"try: open({staging + '/filler'!r}, 'wb', buffering=0).write(bytes(65536))\n"
            "except OSError: pass"
        )
        assert self.hosts.run(node, "-c", code).returncode == 0

    def _unmount(self, node: str) -> None:
        code = f"import subprocess; subprocess.run(['umount', '-l', {str(self.store / 'staging')!r}], check=True)"
        self.hosts.run(node, "-c", code)

    def _kill_driver(self) -> None:
        processes = self.hosts.processes("n1", "moodbench run")
        self._signal(processes, signal.SIGKILL)
        self.driver.wait(timeout=30)

    def _finish(self, process: Any) -> None:
        """Waits for the end; a run that failed or was killed is started again, as a person would."""
        code = process.wait(timeout=600)
        while code != 0 and self.result.num_starts < 6:
            self._restore()
            again = self._start()
            code = again.wait(timeout=600)

    def _restore(self) -> None:
        for node in sorted(self._to_restore):
            self.hosts.restore(node)
        self._to_restore.clear()
        self.hosts.wait_for_nodes(4)

    def _not_shared(self) -> None:
        began = time.monotonic()
        done = self.hosts.run("n1", *self._command(self.hosts.private / "store"))
        assert done.returncode == 2 and "does not see the store's folder" in done.stderr, done.stderr[-800:]
        self.result.faults.append(Fault(self.result.round, "not shared", "all", time.monotonic() - began))

    def _judge(self, reference: Store | None) -> None:
        store, result = Store.open(self.store), self.result
        for kind in KINDS:
            ids = list(store.records(kind)[f"{kind.removesuffix('s')}_id"]) if store.ids(kind) else []
            files = [p.name for p in (self.store / kind).rglob("*.parquet")]
            result.lost += NUM_TRIALS - len(set(ids))
            result.doubled += len(ids) - len(set(ids)) + len(files) - len(set(files))
        if reference is not None:
            for id_ in sorted(reference.ids("evaluations")):
                result.wrong += not same_predictions(store, reference, id_)
        result.duplicates = len(list((self.store / "duplicates").glob("*/*")))
        done = self.hosts.run("n1", "-m", "moodbench", "verify", "--store", str(self.store))
        result.verify = done.returncode
        if done.returncode:
            (self.folder / "verify.log").write_text(done.stdout + done.stderr)
        result.left_over = sum(len(self.hosts.processes(n, "moodbench.worker")) for n in ("n1", "n2", "n3", "n4"))


def same_predictions(store: Store, reference: Store, id_: str) -> bool:
    """Whether both stores hold the same prediction of every text."""
    if id_ not in store.ids("evaluations"):
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
                     f"{'ok' if r.verify == 0 else 'FAILED':>7} {r.left_over:10}")  # fmt: skip
    faults = [f for r in results for f in r.faults]
    cuts = [f.noticed_s for f in faults if f.kind.startswith("cut") and f.noticed_s is not None]
    lines.append(
        f"{len(faults)} faults in {len(results)} rounds ({sum(r.seconds for r in results) / 60:.1f} min): "
        f"{sum(r.lost for r in results)} lost, {sum(r.doubled for r in results)} doubled, {sum(r.wrong for r in results)} wrong; "
        f"verify failed {sum(r.verify != 0 for r in results)} times, {sum(r.left_over for r in results)} processes left over"
        + (f"; silent partitions noticed within {max(cuts):.0f} s" if cuts else "")
    )
    return "\n".join(lines)


def good(results: list[RoundResult]) -> bool:
    """True when nothing was lost, doubled, wrong or left over, and every partition was noticed within a minute."""
    cuts = [f.noticed_s or 0 for r in results for f in r.faults if f.kind.startswith("cut")]
    return (
        all(r.lost == r.doubled == r.wrong == r.verify == r.left_over == 0 for r in results)
        and max(cuts, default=0) < 60
    )


def undisturbed(hosts: Hosts, folder: Path, seed: int, summary: Path | None) -> Path:
    """The store of a run without faults, to compare with; the one that an earlier part left beside `summary` if it did."""
    kept = Path(f"{summary}.undisturbed")
    if summary is not None and kept.is_dir():
        return kept
    calm = Round(hosts, 0, (), folder / "calm", random.Random(seed))
    ended = calm.play(None)
    assert ended.lost == 0 and ended.verify == 0, f"the undisturbed run failed: {folder / 'calm' / 'driver.log'}"
    if summary is None:
        return calm.store
    return Path(shutil.copytree(calm.store, kept))


def run_rounds(folder: Path, numbers: list[int], seed: int, summary: Path | None = None) -> list[RoundResult]:
    """The results of these rounds after an undisturbed one to compare with."""
    for name, text in (("spec.yaml", SPEC), ("config.yaml", CONFIG), ("classes.yaml", CLASSES)):
        (folder / name).write_text(text)
    results = []
    with Hosts(folder / "hosts", memory_limits=True) as hosts:
        reference = Store.open(undisturbed(hosts, folder, seed, summary))
        for number in numbers:
            rng = random.Random(f"{seed}-{number}")
            played = Round(hosts, number, ROUNDS[number - 1], folder / f"round-{number}", rng)
            results.append(played.play(reference))
            print(table(results[-1:]).splitlines()[1], flush=True)
            if summary is not None:
                with summary.open("a") as out:
                    out.write(json.dumps(asdict(results[-1])) + "\n")
    return results


def main() -> None:
    """Exits with 0 when nothing was lost, doubled, wrong or left over, 3 when this machine cannot do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--part", default="1/1", metavar="I/N", help="only every Nth round, from the Ith")
    parser.add_argument("--rounds", metavar="A,B", help="only these rounds")
    parser.add_argument("--summary", type=Path, help="file of results so far; the table covers all of it")
    arguments = parser.parse_args()
    why = missing()
    if why is not None:
        print(f"this machine cannot have such nodes: {why}")
        sys.exit(3)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves no cluster behind
    index, parts = map(int, arguments.part.split("/"))
    numbers = list(range(index, len(ROUNDS) + 1, parts))
    if arguments.rounds:
        numbers = [int(number) for number in arguments.rounds.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="moodbench-campaign-"))
    print(f"{datetime.now():%H:%M:%S} rounds {numbers} in {folder}", flush=True)
    results = run_rounds(folder, numbers, arguments.seed, arguments.summary)
    if arguments.summary is not None:
        results = [
            RoundResult(**{**row, "faults": [Fault(**fault) for fault in row["faults"]]})
            for row in map(json.loads, arguments.summary.read_text().splitlines())
        ]
    print(table(results))
    if good(results):
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if good(results) else 1)


if __name__ == "__main__":
    main()
