"""Run by test_tune.py in a process of its own: a search over two unlike nodes under one Ray, and where each trial ran."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from moodbench.benchmark.context import cluster_target
from moodbench.config import load_catalogue
from moodbench.config.cluster import read_cluster_file
from moodbench.runtime.ray_internals import set_up_environment
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.store import Store
from moodbench.tune.request import make_search
from moodbench.tune.run import run_search
from moodbench.tune.trial_resources import cluster_placement

SPACE = """description: small and large batches
parameters:
  train.effective_batch_size: {distribution: choice, values: [8, 64]}
  lora.r: {distribution: choice, values: [2, 4]}
"""
SMALL, LARGE = 8, 64


def main(folder: Path) -> None:
    """Prints one JSON document: what each batch size may run on, and where each trial ran."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    set_up_environment()
    catalogue = load_catalogue()
    (folder / "space.yaml").write_text(SPACE, "utf-8")
    values: dict[str, Any] = {
        "models": ("MiniLM-L3",),
        "datasets": ("icwsm-movie",),
        "max_train_examples": 64,
        "max_validation_examples": 40,
        "train": {"epochs": 1, "max_device_batch_size": 64},
        "device": "cpu",
    }
    spec = spec_from_values(values, "the test")
    store = Store.open(str(folder / "results"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    tight = int(sys.argv[2])
    nodes = {
        cluster.add_node(num_cpus=1, memory=tight, resources={"exclusive": 1}, labels={"pool": "tight"}): "tight",
        cluster.add_node(num_cpus=1, memory=4 * 2**30, resources={"exclusive": 1}, labels={"pool": "roomy"}): "roomy",
    }
    names = {node.node_id: name for node, name in nodes.items()}
    with closing(cluster_target(cluster.address, store, read_cluster_file(None, catalogue.devices))) as target:
        request = make_search(
            spec,
            str(folder / "space.yaml"),
            catalogue,
            target.machine,
            searcher="random",
            scheduler="none",
            num_trials=4,
            budget_s=None,
            store=store,
        )
        placement = cluster_placement(request, catalogue, target, store)
        needs, may = {}, {}
        for size in (SMALL, LARGE):
            bundle, ids = placement.resources.of({"train.effective_batch_size": size, "lora.r": 2})
            needs[size], may[size] = bundle.get("memory"), sorted(names[i] for i in ids or ())
        ran: list[tuple[int, str, str]] = []

        def listen(event: Any) -> None:
            if event["event"] == "trial_ended":
                trial = event["trial"]
                ran.append(
                    (trial.configuration["train.effective_batch_size"], names.get(event["node"], "?"), trial.status)
                )
            else:
                ran.append((0, "?", event["detail"]))

        trials = run_search(request, store, placement, listen)
    cluster.shutdown()
    left = sorted(p.name for p in (folder / "results" / "staging").iterdir() if not p.name.endswith(".lock"))
    document = {"needs": needs, "may": may, "ran": ran, "num_trials": len(trials), "staging": left}
    json.dump(document, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
