"""Faults injected into a real cluster, and a table of what became of every trial.

    python tests/cluster/campaign.py                    # all of it: at least 30 faults, 35 to 45 minutes on 2 cores; needs root
    python tests/cluster/campaign.py --part 1/3 --summary FILE    # a third; each part adds to FILE and prints the whole table;
                                                        # the first keeps its undisturbed run in FILE.undisturbed for the others
    python tests/cluster/campaign.py --rounds 2,6       # only these rounds

After each round: every trial has exactly one record of each kind, its predictions are those of an undisturbed run, `moodbench
verify` is green, and no process of ours is left on any node. The exit status is 0 only when all that holds, every fault that was
meant struck something, and, over all rounds, there were enough faults of every kind: see `shortfalls`.
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
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from campaign_verdict import ROUNDS, Fault, RoundResult, good, left_over, same_predictions, shortfalls, table
from hosts import HEAD, Hosts, events_of, first, missing, wait_for

from moodbench.store import Store

KINDS = ("fits", "evaluations", "measurements")
SPEC = """
models: [MiniLM-L3, tfidf-logreg, vader]
datasets: [icwsm-tweets, icwsm-product]
max_train_examples: 96
max_validation_examples: 48
protocol: short
train: {epochs: 12, evaluations_per_epoch: 1, patience: 12}
"""
CONFIG = """
evaluation:
  protocols:
    short: {processes: 1, requests: 50, window_requests: 25, warmup_s: 0, batch_sizes: [1, 8], batch_seconds: 0.1,
            batch_repeats: 1, max_attempts: 1, backoff_s: 0, quick: true}
"""
CLASSES = "drain_at: 2\nnode_return_s: 60\ndeadline: {factor: 0.01, extra_s: 200}\n"
NUM_TRIALS = 6
MAX_STARTS = 6
"""How often one run is started, by whoever sees that it has failed or was killed."""
LATE_AFTER_S = 45
"""A stopped worker of a cut node goes on then at the latest: Ray on that node gives itself up 60 s after it lost its head."""
TRIES = 3
"""How often the moment for a fault is looked for anew, when what it was meant for had just ended."""


class Round:
    """One run with its faults."""

    def __init__(
        self,
        hosts: Hosts,
        number: int,
        faults: tuple[str, ...],
        folder: Path,
        rng: random.Random,
        num_trials: int = NUM_TRIALS,
    ) -> None:
        """A run of `num_trials`, by the spec, configuration and classes that lie beside `folder`."""
        self.hosts, self.kinds, self.folder, self.rng, self.num_trials = hosts, faults, folder, rng, num_trials
        self._late: list[tuple[str, int]] = []
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
        """Waits for the moment, does it, waits until it was noticed; tries anew where it struck nothing."""
        if not any(self._strike(kind) for _ in range(TRIES)):
            self.result.missed.append(kind)

    def _strike(self, kind: str) -> bool:
        """Whether a fault of this kind struck a phase that was under way."""
        phase = "measure" if kind.startswith("measuring") else "fit"
        said = kind if phase == "fit" else f"{kind.removeprefix('measuring ')} while measuring"
        kind = kind.removeprefix("measuring ")
        target = self._target(phase)
        if target is None:
            return False
        node = target["node"].removeprefix(f"{self.hosts.name}-")
        fault = Fault(self.result.round, said, node)
        time.sleep(self.rng.uniform(0.5, 2.5))
        workers = self.hosts.processes(node, "moodbench.worker")
        if not workers:
            return False
        at = time.monotonic()
        if kind in ("driver", "head"):
            if not (self._kill_driver() if kind == "driver" else self._kill_head(fault, at)):
                return False
            self.driver = self._start()
            self.result.faults.append(fault)
            return True
        signalled = self._do(kind, node, workers)
        with self._little_memory(node) if kind == "memory" else nullcontext():
            fault.noticed_s = self._noticed(target, at, "out of memory" if kind == "memory" else None)
        if kind == "cut and late":
            with suppress(TimeoutError):
                wait_for(lambda: self._done_elsewhere(target), LATE_AFTER_S, "second attempt's record")
            self._signal(workers, signal.SIGCONT)
            self._late += [(node, worker) for worker in workers]
        if kind == "cut and healed":
            self.hosts.heal(node)
        if kind == "full disk":
            self._unmount(node)
        if not signalled or (fault.noticed_s is None and kind != "worker"):
            return False
        self.result.faults.append(fault)
        return True

    def _do(self, kind: str, node: str, workers: list[int]) -> bool:
        """Does it; whether anything was hit."""
        if kind == "power":
            self.hosts.power_off(node)
        elif kind == "raylet":
            self.hosts.kill_raylet(node)
        elif kind.startswith("cut"):
            if kind == "cut and late" and not self._signal(workers, signal.SIGSTOP):
                return False
            self.hosts.cut(node)
        elif kind in ("worker", "hang"):
            return self._signal(workers, signal.SIGKILL if kind == "worker" else signal.SIGSTOP) > 0
        elif kind == "full disk":
            self._mount(node)
        if kind in ("power", "raylet") or kind.startswith("cut"):
            self._to_restore.add(node)
        return True

    def _target(self, phase: str) -> dict[str, Any] | None:
        """The start of a phase that still goes on, of a model that takes long enough; None when the run ends well first."""
        end = time.monotonic() + 240
        while time.monotonic() < end:
            code = self.driver.poll()
            if code == 0:
                return None
            if code is not None:  # the nodes that are left could not do it
                if self.result.num_starts == MAX_STARTS:
                    return None
                self._restore()
                self.driver = self._start()
            under_way: dict[str, dict[str, Any]] = {}
            for event in self._news():
                if event["event"] == "started":
                    under_way[event["job"]] = event
                elif event["event"] in ("committed", "failed", "skipped", "job_ended"):
                    under_way.pop(event["job"], None)
            for event in reversed(under_way.values()):
                node = event["node"].removeprefix(f"{self.hosts.name}-")
                if event["phase"] != phase or node in self._to_restore:
                    continue
                if phase == "measure" or "MiniLM" in event["trial"]:
                    return event
            time.sleep(0.2)
        return None

    def _noticed(self, target: dict[str, Any], at: float, outcome: str | None) -> float | None:
        """Seconds until the driver told that the attempt had ended badly, so if `outcome` says how; None when it did not."""

        def look() -> Any:
            after = [e for e in self._news() if e["at"] > target["at"]]
            bad = [e for e in after if e["event"] == "job_ended" and e["job"] == target["job"] and e["outcome"] != "ok"]
            return (
                bad
                or first(after, event="job_ended", job=target["job"], outcome="ok")
                or self.driver.poll() is not None
            )

        found = wait_for(look, 330, f"end of {target['trial']} on {target['node']}")
        if not isinstance(found, list) or (outcome is not None and found[0]["outcome"] != outcome):
            return None
        return time.monotonic() - at

    def _done_elsewhere(self, target: dict[str, Any]) -> bool:
        """Whether another attempt has made the record: one that goes on before would make it itself, with no duplicate to keep."""
        return any(
            e["event"] == "committed" and e.get("id") == target["id"] and e["at"] > target["at"] for e in self._news()
        )

    def _signal(self, processes: list[int], number: int) -> int:
        """How many of the processes were there to be signalled."""
        signalled = 0
        for process in processes:
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue
            signalled += 1
        return signalled

    def _wait_for_the_late(self) -> None:
        """Nothing; what goes on on a node that was cut ends, whether or not anybody waits for it."""
        wait_for(lambda: not any(self._still(*each) for each in self._late), 240, "end of late work")
        self._late.clear()

    def _still(self, node: str, worker: int) -> bool:
        return worker in self.hosts.processes(node, "moodbench.worker")

    @contextmanager
    def _little_memory(self, node: str) -> Iterator[None]:
        """What runs on `node` meanwhile gets no more memory."""
        limit, before = self.hosts.squeeze(node)
        try:
            yield
        finally:
            limit.write_text(before)

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

    def _kill_driver(self) -> bool:
        """Whether there was a driver to kill."""
        if not self._signal(self.hosts.processes("n1", "moodbench run"), signal.SIGKILL):
            return False
        self.driver.wait(timeout=30)
        return True

    def _kill_head(self, fault: Fault, at: float) -> bool:
        """True; the cluster starts anew after the driver has said that its head is gone."""
        self.hosts.kill_gcs()
        code = self.driver.wait(timeout=120)
        fault.noticed_s = time.monotonic() - at
        assert code != 0, "a driver without its head must not claim success"
        self.hosts.restart_head()
        return True

    def _finish(self, process: Any) -> None:
        """Waits for the end; a run that failed or was killed is started again, as a person would."""
        code = process.wait(timeout=600)
        while code != 0 and self.result.num_starts < MAX_STARTS:
            self._restore()
            again = self._start()
            code = again.wait(timeout=600)

    def _restore(self) -> None:
        self._wait_for_the_late()
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
            result.lost += self.num_trials - len(set(ids))
            result.doubled += len(ids) - len(set(ids)) + len(files) - len(set(files))
        if reference is not None:
            result.wrong = sum(not same_predictions(store, reference, id_) for id_ in store.ids("evaluations"))
        result.duplicates = len(list((self.store / "duplicates").glob("*/*")))
        done = self.hosts.run("n1", "-m", "moodbench", "store", "verify", "--store", str(self.store))
        result.verify = done.returncode
        if done.returncode:
            (self.folder / "verify.log").write_text(done.stdout + done.stderr)
        result.left_over = left_over(self.hosts)


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
            result = Round(hosts, number, ROUNDS[number - 1], folder / f"round-{number}", rng).play(reference)
            if result.missed:  # the run had ended before there was anything to disturb: once more
                print(f"round {number}: {', '.join(result.missed)} struck nothing, again", flush=True)
                result = Round(hosts, number, ROUNDS[number - 1], folder / f"again-{number}", rng).play(reference)
            results.append(result)
            print(table(results[-1:]).splitlines()[1], flush=True)
            if summary is not None:
                with summary.open("a") as out:
                    out.write(json.dumps(asdict(results[-1])) + "\n")
    return results


def main() -> None:
    """Exits with 0 when `shortfalls` has nothing to say, 1 when it has, 3 when this machine cannot do it."""
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
    for sentence in shortfalls(results):
        print(f"NOT PROVEN: {sentence}")
    if good(results):
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if good(results) else 1)


if __name__ == "__main__":
    main()
