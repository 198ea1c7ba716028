"""Faults at random moments of a run: the same command finishes the rest, and the store is that of an undisturbed run.

Five faults by default; the full form, with its summary, is `MOODBENCH_FAULTS=50 uv run pytest -n 0 -s -m slow tests/integration/test_faults.py`.
Each fault is drawn from one seed: a signal to the driver, to a worker or to one of Ray's processes, a disk that takes no
more, or files in the store that are torn, damaged or not ours. Where it may mount, each store is on a small file system of
its own, which is full from a drawn moment on; elsewhere files stop growing at a drawn size.
"""

import json
import os
import random
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from command_line import SHORT
from fault_injection import FAULTS, KINDS, Disk, Run, damage, inject, num_events, repair, stderr_of

from moodbench.store import Store
from moodbench.store.verify import set_aside, verify

NUM_FAULTS = int(os.environ.get("MOODBENCH_FAULTS", "5"))
pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600 + 180 * NUM_FAULTS)]
FAULTS_PER_ROUND = 4
WITH_FINE_TUNING = NUM_FAULTS >= 20
"""Every third round of the longer forms stops a fine-tuning too; test_resume.py does that in the short form."""
OVERLAY = (
    SHORT.replace("processes: 2, requests: 50", "processes: 1, requests: 50")
    + """
  light:
    description: two entries in seconds
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
        for read in (Store.predictions, Store.validation):
            a, b = (read(s, [evaluation_id]).set_index("example_id").sort_index() for s in (store, undisturbed))
            assert len(b) and a.index.equals(b.index)
            np.testing.assert_array_equal(np.stack(a["logits"]), np.stack(b["logits"]))


def prepared(folder: Path, preset: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "preset").write_text(preset)
    (folder / "overlay.yaml").write_text(OVERLAY)
    return folder


def finish(folder: Path) -> None:
    run = Run(folder)
    code = run.settle(900)
    assert code == 0, stderr_of(folder).read_text()


@pytest.fixture
def disks():
    """Makes a disk at a folder; all of them are gone at the end."""
    with ExitStack() as made:

        def disk(folder: Path) -> Disk:
            one = Disk(folder)
            made.callback(one.close)
            return one

        yield disk


def test_whatever_ends_a_run_its_command_leaves_the_store_of_an_undisturbed_one(tmp_path, disks):
    undisturbed, lengths, num_told = {}, {}, {}
    for preset in ("light", "lora") if WITH_FINE_TUNING else ("light",):
        calm = prepared(tmp_path / f"calm-{preset}", preset)
        began = time.monotonic()
        finish(calm)
        lengths[preset] = time.monotonic() - began
        num_told[preset] = num_events(calm)
        undisturbed[preset] = Store.open(calm / "results")

    rng, injected, resumed, num_rounds, num_damaged = random.Random(20140601), Counter(), 0, 0, 0
    plan = rng.choices(list(FAULTS), [weight for _, weight in FAULTS.values()], k=20 * NUM_FAULTS)
    # However few faults: one of each place where they come from.
    first = [
        "kill -9 of the driver",
        "full disk",
        "torn, damaged and foreign files",
        "kill -9 of a worker",
        "SIGTERM of the driver",
    ]
    plan = [*first, *plan]
    while injected.total() < NUM_FAULTS:
        num_rounds += 1
        assert num_rounds <= 2 * NUM_FAULTS, f"faults come too late to hit a run: {injected} in {num_rounds} rounds"
        preset = "lora" if WITH_FINE_TUNING and num_rounds % 3 == 0 else "light"
        disk = disks(tmp_path / f"rough-{num_rounds}")
        rough = prepared(tmp_path / f"rough-{num_rounds}", preset)
        store, known, gone = Store.open(rough / "results"), {}, set()
        for _ in range(min(FAULTS_PER_ROUND, NUM_FAULTS - injected.total())):
            fault = plan.pop(0)
            missing = 1 - len(known) / 6
            if inject(fault, rough, disk, max(2, round(missing * num_told[preset])), rng):
                injected[fault] += 1
            now = identity_of_records(store)
            assert known.items() <= now.items(), f"after {fault}: a committed record was lost or written again"
            assert verify(store.location).differences == [], f"after {fault}"
            known = now
            if fault.startswith("torn") and (key := damage(rough, rng)) is not None:
                gone |= repair(rough, key)
                num_damaged += 1
                known = identity_of_records(store)
            if len(known) == 6:
                break
        finish(rough)
        assert known.items() <= identity_of_records(store).items()
        assert_equal_stores(store, undisturbed[preset])
        committed = set()
        for event in events(rough):
            if event["event"] == "committed":
                committed.add(event["id"])
            assert event["event"] != "started" or event["id"] not in committed - gone, (
                "what is committed is not begun again"
            )
            resumed += "continues from the checkpoint" in event.get("note", "")
        disk.close()
    usual = " and ".join(f"{seconds:.0f} s ({preset})" for preset, seconds in lengths.items())
    print(
        f"\n{injected.total()} faults in {num_rounds} rounds, each ended by an undisturbed command, which takes {usual}:"
    )
    for fault, number in injected.most_common():
        print(f"  {number:3d} {fault}")
    print(
        f"  {resumed} times a fit went on from a checkpoint, {num_damaged} committed files were cut short and set aside; every "
        "store equals the undisturbed one and verifies"
    )


def test_a_truncated_artifact_is_refused_with_what_to_do_and_made_anew(tmp_path):
    folder = prepared(tmp_path / "store", "light")
    finish(folder)
    store = Store.open(folder / "results")
    before = {kind: store.ids(kind) for kind in KINDS}
    path = sorted((folder / "results" / "artifacts").rglob("*.json"))[0]
    fit_id = path.relative_to(folder / "results").parts[1]
    path.write_bytes(path.read_bytes()[:-10])
    for evaluation in (folder / "results" / "evaluations").rglob("*.parquet"):
        if store.record("evaluations", evaluation.stem)["fit_id"] == fit_id:
            evaluation.unlink()  # so that the run needs the artifact again
    assert Run(folder).settle(900) == 1
    said = stderr_of(folder).read_text()
    assert path.name in said and "differs from what was committed" in said and "verify --set-aside" in said
    set_aside(store.location, verify(store.location))
    finish(folder)
    assert {kind: store.ids(kind) for kind in KINDS} == before
    assert verify(store.location).differences == []
