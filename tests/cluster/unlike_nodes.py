"""Run by test_unlike_nodes.py in a process of its own: three unlike nodes under one Ray, and what commands see there."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from campaign import CONFIG
from ray.cluster_utils import Cluster

import moodbench
from moodbench.hardware import GIB
from moodbench.runtime.executor import Command
from moodbench.runtime.ray_cluster import ClusterExecutor
from moodbench.runtime.ray_internals import set_up_environment
from moodbench.schedule import Need, Node, Scheduler, Task
from moodbench.store import Store

TELL = "import json, os, sys, time; tell = lambda **e: print(json.dumps(e), flush=True); "
SPAN = (
    TELL
    + "tell(begin=time.time(), gpus=os.environ.get('CUDA_VISIBLE_DEVICES'), threads=os.environ['OMP_NUM_THREADS'], nice=os.nice(0)); "
)


def command(key: str, code: str, **options: Any) -> Command:
    values: dict[str, Any] = {"num_cpus": 1, "exclusive": False, **options}
    return Command(key, ("-c", code), "", **values)


def waits_for_the_other(folder: str, own: str, other: str) -> str:
    """Code that ends when the other is there too, or after 100 s: on a busy machine one may start much later."""
    return SPAN + (
        f"from pathlib import Path; Path({folder!r}, {own!r}).touch(); last = time.time() + 100\n"
        f"while not Path({folder!r}, {other!r}).exists() and time.time() < last: time.sleep(0.1)\n"
        "tell(end=time.time())"
    )


def started_cluster() -> Cluster:
    """A cluster of a head; Ray gives its daemons 30 s, and a busy machine may need another try."""
    for attempt in range(3):
        try:
            return Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "labels": {"pool": "head"}})
        except Exception as error:
            if attempt == 2 or "timed out" not in str(error).lower():
                raise
    raise AssertionError


def recorded_isolation(address: str) -> list[str]:
    """What the measurements of a run on this cluster say of how they were alone."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIG)
        store = f"{folder}/store"
        moodbench.run("majority", "icwsm-product", store=store, config=config, address=address, protocol="short",
                      max_train_examples=50, max_validation_examples=50)  # fmt: skip
        return [str(each) for each in Store.open(store).records("measurements")["isolation"]]


def main() -> None:
    """Prints one JSON document: what each command told and how it ended."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ |= {"RAY_health_check_initial_delay_ms": "2000", "RAY_health_check_period_ms": "500",
                   "RAY_health_check_timeout_ms": "1500", "RAY_health_check_failure_threshold": "2"}  # fmt: skip
    set_up_environment()
    cluster = started_cluster()
    small = {"ray.io/accelerator-type": "A10G"}
    large = {"ray.io/accelerator-type": "A100"}
    without_lease = cluster.add_node(num_cpus=2, num_gpus=2, labels=large)
    isolations = recorded_isolation(cluster.address)
    cluster.add_node(num_cpus=2, num_gpus=1, resources={"exclusive": 1}, labels=small)
    executor = ClusterExecutor(cluster.address)
    end = time.monotonic() + 30
    while len(executor.alive()) < 3 and time.monotonic() < end:
        time.sleep(0.2)
    by_type = {node.labels.get("ray.io/accelerator-type"): node for node in executor.alive().values()}
    a10g, a100 = by_type["A10G"].id, by_type["A100"].id

    told: dict[str, list[Any]] = {}
    outcomes: dict[str, list[str]] = {}

    def run(*pairs: tuple[Command, str], seconds: float = 90, after_start: Any = None) -> None:
        waiting = {each.key for each, _ in pairs}
        for each, node in pairs:
            executor.start(each, node)
            time.sleep(0.3)
        limit = time.monotonic() + seconds
        while waiting and time.monotonic() < limit:
            for ended in executor.poll(0.5, lambda p: told.setdefault(p.key, []).append(dict(p.event))):
                outcomes[ended.key] = [ended.outcome.kind, ended.outcome.detail]
                waiting.discard(ended.key)
            if after_start is not None and told.keys() >= waiting:
                after_start()
                after_start = None

    linger = SPAN + "time.sleep(4); tell(end=time.time())"
    meeting = tempfile.mkdtemp()
    whole = {"num_cpus": 2, "exclusive": True, "num_threads": 2}
    run(
        (command("packed on a10g", waits_for_the_other(meeting, "a10g", "a100")), a10g),
        (command("packed on a100", waits_for_the_other(meeting, "a100", "a10g")), a100),
        (command("measured on a10g", linger, **whole, num_gpus=1), a10g),
        (command("measured on a100", linger, **whole, num_gpus=2), a100),
        seconds=200,
    )
    big = Task("spread", Need(device="cuda", gpu_memory_bytes=90 * GIB, gpu_fixed_bytes=GIB))
    cards = (("a10g", a10g, 1, 22.5), ("a100", a100, 2, 80))
    nodes = [Node(id_, name, num_cpus=2, num_gpus=n, gpu_memory_bytes=int(gib * GIB), devices=frozenset({"cpu", "cuda"}))
             for name, id_, n, gib in cards]  # fmt: skip
    (chosen,) = Scheduler([big], nodes).start()
    spread = command("spread over two", linger, num_gpus=big.need.gpus_on(chosen.node))
    run((spread, chosen.node.id), (command("half beside it", linger, num_gpus=0.5), a100))
    run(
        (command("half 1", linger, num_gpus=0.5), a100),
        (command("half 2", linger, num_gpus=0.5), a100),
    )
    run(
        (command("late", TELL + "tell(begin=1); time.sleep(60)", deadline_s=2), a10g),
        (command("dies", SPAN + "os.kill(os.getpid(), 9)"), a10g),
    )
    run((command("lost", SPAN + "time.sleep(60)"), a100), after_start=lambda: cluster.remove_node(without_lease))
    isolation = {"a10g": executor.isolation(a10g), "a100": "pg" if not by_type["A100"].leasable else "resource"}
    executor.close()
    cluster.shutdown()
    found = {"told": told, "outcomes": outcomes, "isolation": isolation, "recorded": isolations}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
