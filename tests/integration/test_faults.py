"""Faults at random moments of a run: the same command finishes the rest, and the store is that of an undisturbed run.

Five faults by default; the full form, with its summary, is `MOODBENCH_FAULTS=50 uv run pytest -s tests/integration/test_faults.py`.
Each fault is drawn from one seed: a signal to the driver, to a worker or to one of Ray's processes, a disk that takes no
more, or files in the store that are torn or not ours. Only processes that the test started are signalled, by their pid.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import SHORT

from moodbench.store import Store
from moodbench.store.verify import verify

NUM_FAULTS = int(os.environ.get("MOODBENCH_FAULTS", "5"))
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600 + 180 * NUM_FAULTS)]
FAULTS_PER_ROUND = 4
WITH_FINE_TUNING = NUM_FAULTS >= 20
"""Every third round of the longer forms stops a fine-tuning too; test_resume.py does that in the short form."""
KINDS = ("fits", "evaluations", "measurements")
OVERLAY = (
    SHORT.replace("processes: 2, requests: 50", "processes: 1, requests: 50")
    + """
  light:
    description: two contenders in seconds
    models: [tfidf-logreg, vader]
    datasets: [icwsm-tweets]
    protocol: short
  lora:
    description: a fine-tuning of few steps, to be stopped between them
    models: [tfidf-logreg, MiniLM-L3]
    datasets: [icwsm-tweets]
    max_train_examples: 64
    max_validation_examples: 32
    protocol: short
    train: {epochs: 3, evaluations_per_epoch: 1, effective_batch_size: 8}
"""
)
FAULTS = {
    # name: (executor, weight)
    "kill -9 of the driver": ("inline", 3),
    "SIGTERM of the driver": ("inline", 3),
    "Ctrl-C of the driver": ("inline", 3),
    "full disk": ("inline", 3),
    "torn and foreign files": ("inline", 2),
    "kill -9 of the driver over Ray": ("ray", 1),
    "kill -9 of a worker": ("ray", 2),
    "SIGTERM of a worker": ("ray", 1),
    "kill -9 of a Ray process": ("ray", 2),
}
SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}


class Run:
    """The command under test in `folder`, as a process of its own."""

    def __init__(self, folder: Path, executor: str = "inline", largest_file: int | None = None) -> None:
        preset = (folder / "preset").read_text()
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"MOODBENCH_CHECKPOINT_S": "0.2", "OMP_NUM_THREADS": "1"}
        if largest_file is not None:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"  # Python 3.12 keeps byte code that a full disk cut short

        def limit() -> None:
            # Every file stops growing there, as on a full disk; Python gets an OSError from the very write.
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        with (folder / "stderr.txt").open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moodbench", "run", preset, "--config", "overlay.yaml", "--executor", executor],
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                preexec_fn=limit,
            )
        self._seen: dict[int, psutil.Process] = {}

    def ended_within(self, seconds: float) -> bool:
        """Whether the command ended by itself; its descendants are noted meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                return True
            self.descendants()
            time.sleep(0.1)
        return self.process.poll() is not None

    def descendants(self) -> list[psutil.Process]:
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._seen |= {p.pid: p for p in found}
        return found

    def settle(self, seconds: float) -> int:
        """The exit code, once the command and all that it started have ended; what will not end is killed by its pid."""
        code = self.process.wait(timeout=seconds)
        _, alive = psutil.wait_procs(list(self._seen.values()), timeout=60)
        for process in alive:
            process.kill()
        return code


def signal_to(run: Run, fault: str, rng: random.Random) -> bool:
    """Whether there was a process for the signal of `fault`, which it then got."""
    number = next(n for name, n in SIGNALS.items() if fault.startswith(name))
    if "driver" in fault:
        run.descendants()
        run.process.send_signal(number)
        return True
    wanted = []
    for process in run.descendants():
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if ("moodbench.worker" in command) if "worker" in fault else ("raylet" in command or "gcs_server" in command):
            wanted.append(process)
    if not wanted:
        return False
    rng.choice(wanted).send_signal(number)
    return True


def tear(folder: Path, rng: random.Random) -> None:
    """Puts what a crash or a person may leave into the store: nothing of it is named by a record."""
    root = folder / "results"
    for place in ("staging/left", "artifacts/notafit", "predictions/dataset=icwsm-tweets", "staging/fit-0/left"):
        (root / place).mkdir(parents=True, exist_ok=True)
        (root / place / f"torn-{rng.randrange(10**6)}.parquet").write_bytes(rng.randbytes(rng.randrange(400)))
    for checkpoint in sorted(root.glob("staging/fit-*/*/checkpoint-*")):
        for path in sorted(p for p in checkpoint.iterdir() if p.is_file()):
            if rng.random() < 0.2:
                path.write_bytes(path.read_bytes()[: rng.randrange(1 + path.stat().st_size)])


def num_events(folder: Path) -> int:
    """How many lines the runs in `folder` have written about what they do."""
    return sum(path.read_bytes().count(b"\n") for path in (folder / "results" / "events").glob("*.jsonl"))


def inject(fault: str, folder: Path, expected_events: int, rng: random.Random) -> bool:
    """Whether the fault came about while the command ran.

    It comes up to a second after a drawn one of the `expected_events`, so that it hits as well on a busy machine.
    """
    executor = FAULTS[fault][0]
    if fault == "full disk":
        return Run(folder, largest_file=round(2 ** rng.uniform(9, 13))).settle(900) != 0
    awaited = num_events(folder) + rng.randrange(expected_events)
    run = Run(folder, executor)
    while num_events(folder) < awaited and not run.ended_within(0.1):
        pass
    hit = not run.ended_within(rng.uniform(0, 1))
    if fault == "torn and foreign files":
        run.process.kill()
        run.settle(60)
        tear(folder, rng)
        return hit
    patience = time.monotonic() + 300
    if hit:
        while not (hit := signal_to(run, fault, rng)) and not run.ended_within(0.2) and time.monotonic() < patience:
            pass
    code = run.settle(900)
    if hit and fault.startswith("Ctrl-C"):
        # Python itself ends by the signal until it has come to the command's first line.
        assert code in (0, 130, -signal.SIGINT), (folder / "stderr.txt").read_text()
    return hit


def identity_of_records(store: Store) -> dict[str, tuple[int, int]]:
    """Each record file with what changes when it is written again."""
    found = {}
    for kind in KINDS:
        for path in (Path(store.uri) / kind).rglob("*.parquet"):
            facts = path.stat()
            found[path.name] = (facts.st_ino, facts.st_mtime_ns)
    return found


def events(folder: Path) -> list[dict]:
    """The events of every run in `folder`, in order; a torn last line is left out."""
    found = []
    for path in sorted((folder / "results" / "events").glob("*.jsonl"), key=lambda p: p.stat().st_mtime_ns):
        for line in path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return found


def assert_equal_stores(store: Store, undisturbed: Store) -> None:
    assert verify(store.location).differences == []
    for kind in KINDS:
        assert store.ids(kind) == undisturbed.ids(kind)
        assert len(store.records(kind)) == 2, "nothing is doubled"
    for evaluation_id in store.ids("evaluations"):
        a, b = (s.predictions([evaluation_id]).set_index("example_id").sort_index() for s in (store, undisturbed))
        np.testing.assert_array_equal(np.stack(a["logits"]), np.stack(b["logits"]))


def prepared(folder: Path, preset: str) -> Path:
    folder.mkdir()
    (folder / "preset").write_text(preset)
    (folder / "overlay.yaml").write_text(OVERLAY)
    return folder


def finish(folder: Path) -> None:
    run = Run(folder)
    code = run.settle(900)
    assert code == 0, (folder / "stderr.txt").read_text()


def test_whatever_ends_a_run_its_command_leaves_the_store_of_an_undisturbed_one(tmp_path):
    undisturbed, lengths, num_told = {}, {}, {}
    for preset in ("light", "lora") if WITH_FINE_TUNING else ("light",):
        calm = prepared(tmp_path / f"calm-{preset}", preset)
        began = time.monotonic()
        finish(calm)
        lengths[preset] = time.monotonic() - began
        num_told[preset] = num_events(calm)
        undisturbed[preset] = Store.open(calm / "results")

    rng, injected, resumed, num_rounds = random.Random(20140601), Counter(), 0, 0
    plan = rng.choices(list(FAULTS), [weight for _, weight in FAULTS.values()], k=20 * NUM_FAULTS)
    # However few faults: one of each place where they come from.
    first = [
        "kill -9 of the driver",
        "full disk",
        "torn and foreign files",
        "kill -9 of a worker",
        "SIGTERM of the driver",
    ]
    plan = [*first, *plan]
    while injected.total() < NUM_FAULTS:
        num_rounds += 1
        assert num_rounds <= 2 * NUM_FAULTS, f"faults come too late to hit a run: {injected} in {num_rounds} rounds"
        preset = "lora" if WITH_FINE_TUNING and num_rounds % 3 == 0 else "light"
        rough = prepared(tmp_path / f"rough-{num_rounds}", preset)
        store, known = Store.open(rough / "results"), {}
        for _ in range(min(FAULTS_PER_ROUND, NUM_FAULTS - injected.total())):
            fault = plan.pop(0)
            missing = 1 - len(known) / 6
            if inject(fault, rough, max(2, round(missing * num_told[preset])), rng):
                injected[fault] += 1
            now = identity_of_records(store)
            assert known.items() <= now.items(), f"after {fault}: a committed record was lost or written again"
            assert verify(store.location).differences == [], f"after {fault}"
            known = now
            if len(known) == 6:
                break
        finish(rough)
        assert known.items() <= identity_of_records(store).items()
        assert_equal_stores(store, undisturbed[preset])
        committed = set()
        for event in events(rough):
            if event["event"] == "committed":
                committed.add(event["id"])
            assert event["event"] != "started" or event["id"] not in committed, "what is committed is not begun again"
            resumed += "continues from the checkpoint" in event.get("note", "")
    usual = " and ".join(f"{seconds:.0f} s ({preset})" for preset, seconds in lengths.items())
    print(
        f"\n{injected.total()} faults in {num_rounds} rounds, each ended by an undisturbed command, which takes {usual}:"
    )
    for fault, number in injected.most_common():
        print(f"  {number:3d} {fault}")
    print(f"  {resumed} times a fit went on from a checkpoint; every store equals the undisturbed one and verifies")


def test_a_truncated_record_is_named_and_made_anew_when_moved_away(tmp_path):
    folder = prepared(tmp_path / "store", "light")
    finish(folder)
    store = Store.open(folder / "results")
    before = store.ids("evaluations")
    path = sorted((folder / "results" / "evaluations").rglob("*.parquet"))[0]
    path.write_bytes(path.read_bytes()[:-100])
    assert Run(folder).settle(900) == 2
    assert f"{path.name}: cannot be read as Parquet" in (folder / "stderr.txt").read_text()
    path.rename(tmp_path / "aside")
    finish(folder)
    assert store.ids("evaluations") == before
    assert verify(store.location).differences == []
