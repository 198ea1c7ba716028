"""A cluster's nodes as the driver meets them: checked, named, classed, and what fits where."""

import io
import json
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from generated_store import generate
from refused import fail
from rich.console import Console

from moodbench.benchmark.cluster_status import WhatFits, sentences, status
from moodbench.benchmark.target import ClusterTarget, check, versions
from moodbench.cli.running import open_context
from moodbench.config import load_catalogue
from moodbench.config.cluster import ClusterFile, read_cluster_file
from moodbench.errors import PrerequisiteError
from moodbench.hardware import GIB, Gpu, Hardware, hardware
from moodbench.runtime.executor import Command, Ended, Progress
from moodbench.runtime.process import Outcome
from moodbench.runtime.ray_cluster import RayNode
from moodbench.schedule import Node
from moodbench.store import Store


def refused(capsys, *arguments):
    return fail(list(map(str, arguments)), capsys)


CPU = Hardware("A CPU", 8, 64 * GIB, (), mps=False)


GPU = Hardware("A CPU", 8, 64 * GIB, (Gpu("A10G", 24 * GIB, "550", "[N/A]", "300"),), mps=False)


def ray_node(name, cpus=4, gpus=0, memory=32 * GIB, leasable=True, labels=None):
    resources = {"CPU": float(cpus), "GPU": float(gpus), "memory": float(memory), "exclusive": float(leasable)}
    return RayNode(f"id-{name}", name, f"10.0.0.{len(name)}", {k: v for k, v in resources.items() if v}, labels or {})


def device_class(like="cpu-16g", **changes):
    return load_catalogue(None).devices[like].model_copy(update=changes)


class StandIn:
    """A cluster whose nodes answer their check at once, each with the event that `answers` has for it."""

    def __init__(self, nodes, answers):
        self.nodes, self.answers, self.asked, self.closed = {n.id: n for n in nodes}, answers, [], False

    def alive(self):
        return self.nodes

    def isolation(self, node_id):
        return "resource" if self.nodes[node_id].leasable else "pg"

    def start(self, command: Command, node_id):
        self.asked.append((command, node_id))

    def poll(self, timeout_s, hear):
        asked, self.asked = self.asked, []
        ended = []
        for command, node_id in asked:
            answer = self.answers.get(self.nodes[node_id].name)
            if isinstance(answer, Outcome):
                ended.append(Ended(command.key, answer))
                self.nodes.pop(node_id)
            elif isinstance(answer, str):
                ended.append(Ended(command.key, Outcome("program error", answer)))
            elif answer is not None:
                hear(Progress(command.key, answer))
                ended.append(Ended(command.key, Outcome("ok")))
        return ended

    def has_started(self, key):
        return True

    def free_resources(self, node_id):
        return ""

    def cancel(self, key):
        self.asked = [(c, n) for c, n in self.asked if c.key != key]

    def close(self):
        self.closed = True


def answer(machine, store=None, **others):
    said = {"hardware": json.loads(json.dumps(asdict(machine))), "store": store, "versions": versions() | others}
    return {"event": "node", **said}


def site_of(tmp_path, nodes, answers, rules=None, **options):
    cluster = StandIn(nodes, answers)
    rules = rules or ClusterFile()
    target = ClusterTarget(cluster, Store.open(tmp_path / "store"), rules, address="h:1", **options)
    OPEN.append(target)
    return target, cluster


OPEN = []


@pytest.fixture(autouse=True)
def _closed():
    yield
    while OPEN:
        OPEN.pop().close()


def test_nodes_that_pass_their_check_become_nodes_of_the_schedule(tmp_path):
    rules = ClusterFile(devices={"small": device_class(labels={"pool": "gpu"}, price_per_hour=1.5)})
    nodes = [ray_node("head", cpus=0), ray_node("a", gpus=1, labels={"pool": "gpu"}), ray_node("b", memory=128 * GIB)]
    target, cluster = site_of(tmp_path, nodes, {"a": answer(GPU), "b": answer(CPU)}, rules)
    a, b = target.nodes()
    assert (a.name, a.kind, a.num_cpus, a.num_gpus, a.gpu_memory_bytes) == ("a", "small", 4, 1, 24 * GIB)
    assert (a.price_per_hour, a.devices, a.machine_key) == (1.5, {"cpu", "cuda"}, GPU.machine_key)
    assert (b.kind, b.memory_bytes, b.devices) == ("cpu", 64 * GIB, {"cpu"}), "Ray may claim more memory than there is"
    assert target.machine == GPU, "measurements go to the machine with a GPU"
    target.close()
    assert cluster.closed and not list((tmp_path / "store" / "staging").iterdir()), "the marker is taken away"


def test_a_gpu_that_ray_claims_and_the_driver_does_not_see_is_no_device(tmp_path):
    target, _ = site_of(tmp_path, [ray_node("a", gpus=2)], {"a": answer(CPU)})
    assert target.nodes()[0].devices == {"cpu"}


def test_a_resumed_run_measures_on_the_kind_of_machine_that_the_store_has_measurements_of(tmp_path):
    machine = hardware()
    larger = replace(machine, memory_bytes=2 * machine.memory_bytes)
    nodes, answers = (
        [ray_node("small"), ray_node("large", memory=64 * GIB)],
        {"small": answer(machine), "large": answer(larger)},
    )
    assert site_of(tmp_path, nodes, answers)[0].machine == larger, "without measurements the one with more memory"
    generate(tmp_path / "store", num_models=1, num_datasets=1, num_seeds=1, predictions=False)
    assert site_of(tmp_path, nodes, answers)[0].machine == machine


def test_measure_on_chooses_the_class_that_measures(tmp_path):
    rules = ClusterFile(devices={"plain": device_class(labels={"pool": "cpu"})}, measure_on=("plain",))
    nodes = [ray_node("a", gpus=1), ray_node("b", labels={"pool": "cpu"})]
    answers = {"a": answer(GPU), "b": answer(CPU)}
    assert site_of(tmp_path, nodes, answers, rules)[0].machine == CPU
    with pytest.raises(PrerequisiteError, match="measure_on is plain, but the nodes are of class cpu"):
        site_of(tmp_path, nodes[:1], answers, rules)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (answer(CPU, store="does not see the store's folder"), "b does not see the store's folder"),
        (answer(CPU, moodbench="0.0.1"), "b has moodbench 0.0.1, this driver has"),
        (answer(CPU, torch="1.0", python="3.9"), "b has torch 1.0, python 3.9, this driver has torch 2."),
        (answer(CPU, peft=None), "b has peft not installed, this driver has peft 0."),
        ("No module named 'moodbench'", "b failed its check: No module named 'moodbench'"),
        (None, "b did not finish its check within 120 s. They are overloaded, or Ray starts no worker there"),
    ],
)
def test_a_node_that_cannot_work_is_named_with_the_reason_before_anything_starts(tmp_path, reply, said):
    ticks = iter(range(1000))
    with pytest.raises(PrerequisiteError) as refusal:
        site_of(tmp_path, [ray_node("a"), ray_node("b")], {"a": answer(CPU), "b": reply}, check_s=5,
                clock=lambda: next(ticks))  # fmt: skip
    assert said in str(refusal.value) and "Nothing was started" in str(refusal.value)


def test_a_node_that_dies_during_the_first_check_is_left_out_and_the_run_goes_on(tmp_path):
    died = Outcome("infrastructure", "The actor's node has died")
    target, _ = site_of(tmp_path, [ray_node("a"), ray_node("b")], {"a": answer(CPU), "b": died})
    assert [n.name for n in target.nodes()] == ["a"]
    assert target.node_events() == [{"event": "node_left", "node": "b"}]
    with pytest.raises(PrerequisiteError, match="every node of the cluster died during its check"):
        site_of(tmp_path, [ray_node("b")], {"b": died})


def test_builds_for_other_gpus_are_the_same_version(tmp_path, monkeypatch):
    monkeypatch.setattr("moodbench.benchmark.target.library_version", lambda name: "2.15.0+cu130")
    assert versions()["torch"] == "2.15.0"


def test_a_cluster_of_a_head_alone_is_refused(tmp_path):
    with pytest.raises(PrerequisiteError, match="no node with CPUs"):
        site_of(tmp_path, [ray_node("head", cpus=0)], {})


def test_nodes_that_join_are_checked_first_and_those_that_leave_are_told(tmp_path):
    target, cluster = site_of(
        tmp_path, [ray_node("a")], {"a": answer(CPU), "b": answer(CPU), "c": answer(CPU, store="no")}
    )
    cluster.nodes |= {n.id: n for n in (ray_node("b"), ray_node("c"))}
    assert [n.name for n in target.nodes()] == ["a"], "not before it has looked at itself"
    target.poll(0, lambda progress: pytest.fail("a check is no event of a trial"))
    del cluster.nodes["id-a"]
    assert [n.name for n in target.nodes()] == ["b"]
    told = sorted((e["event"], e["node"]) for e in target.node_events())
    assert told == [("node_joined", "b"), ("node_left", "a"), ("node_refused", "c")]
    assert target.node_events() == []


def test_nodes_without_a_lease_are_named(tmp_path):
    target, _ = site_of(tmp_path, [ray_node("a"), ray_node("b", leasable=False)], {"a": answer(CPU), "b": answer(CPU)})
    assert target.without_lease() == ["b"]
    assert (target.executor.isolation("id-a"), target.executor.isolation("id-b")) == ("resource", "pg")


def test_a_run_says_which_nodes_have_no_lease_and_what_that_means(tmp_path, monkeypatch):
    nodes = [ray_node("a"), ray_node("b", leasable=False)]
    target, _ = site_of(tmp_path, nodes, {"a": answer(CPU), "b": answer(CPU)})
    monkeypatch.setattr("moodbench.cli.running.cluster_target", lambda *_, **__: target)
    said = io.StringIO()
    arguments = Namespace(address="h:1", cluster=None, config=None, executor="ray", store=str(tmp_path / "store"))
    with open_context(arguments, load_catalogue(), Console(file=said, width=80)) as context:
        assert (context.machine, context.target) == (CPU, target)
    lines = said.getvalue().splitlines()
    assert lines[0] == "Cluster at h:1: a (cpu, 4 CPUs), b (cpu, 4 CPUs)"
    assert lines[1].startswith("b: no resource `exclusive`") and "placement group over the whole node" in lines[1]
    assert lines[1].endswith("Start nodes with --resources='{\"exclusive\": 1}'")


def test_a_node_tells_a_shared_store_from_another_of_the_same_name(tmp_path):
    marker = tmp_path / "marker"
    store = str(tmp_path / "store")
    assert "does not see" in check(store, str(marker), "x")["store"]
    marker.write_text("y")
    assert "a different folder" in check(store, str(marker), "x")["store"]
    marker.write_text("x")
    found = check(store, str(marker), "x")
    assert found["store"] is None and found["hardware"]["num_cores"] >= 1
    (tmp_path / "file").write_text("")
    assert "cannot use the store" in check(str(tmp_path / "file"), None, "")["store"]


def test_classes_of_the_file_come_before_the_catalogues_and_one_without_labels_takes_no_node(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("devices: {h100-80g: {labels: {ray.io/accelerator-type: A10G}}}")
    rules = read_cluster_file(path, load_catalogue(None).devices)
    assert rules.class_of({"ray.io/accelerator-type": "A10G"}) == "h100-80g"
    assert rules.class_of({}) == "cpu", "not mac-8g, which has no labels"


def test_the_example_file_is_valid_and_classes_go_by_all_of_their_labels():
    example = Path(__file__).resolve().parents[2] / "cluster" / "classes.yaml"
    rules = read_cluster_file(example, load_catalogue(None).devices)
    a10g = rules.class_of({"pool": "gpu", "ray.io/accelerator-type": "A10G"})
    assert rules.devices[a10g] == load_catalogue(None).devices["a10g-24g"], "as the catalogue has it"
    priced = rules.devices[rules.class_of({"pool": "cpu"})]
    assert (priced.memory_gib, priced.price_per_hour, priced.tags) == (16, 0.1, ("cpu",)), "laid over the catalogue's"
    assert rules.class_of({"ray.io/accelerator-type": "B300"}) == "B300", "an unknown accelerator names its own class"
    assert ClusterFile().class_of({}) == "cpu"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clases: {}", "clases"),
        ("devices: {a: {labels: {x: y}}}", "devices.a.tflops"),
        ("devices: {t4-16g: {price_per_hour: -1}}", "devices.t4-16g.price_per_hour"),
        ("devices: {t4-16g: 3}", "devices.t4-16g"),
        ("devices: 3", "devices"),
        ("drain_at: 0", "drain_at"),
        ("measure_on: [gpu]", "measure_on names gpu; known classes are"),
    ],
)
def test_a_wrong_cluster_file_is_refused_with_the_place(tmp_path, capsys, text, said):
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    message = refused(
        capsys, "run", "quickstart", "--address", "127.0.0.1:1", "--cluster", path, "--store", tmp_path / "s"
    )
    assert said in message and "classes.yaml" in message


def test_what_ray_has_free_is_told_in_words():
    node = ray_node("n2", cpus=2, gpus=1, memory=4 * GIB)
    # Ray leaves out what is used up.
    assert replace(node, free={"memory": 1.5 * GIB}).free_text() == "0 of 2 CPUs, 1.5 GiB of memory, 0 of 1 GPUs"
    assert replace(ray_node("n", memory=0), free={"CPU": 0.5}).free_text() == "0.5 of 4 CPUs"


def test_status_says_what_fits_where_by_estimates_and_why_not():
    rules = ClusterFile(devices=load_catalogue(None).devices)
    a10g, strange = ({"ray.io/accelerator-type": name} for name in ("A10G", "B300"))
    nodes = [
        ray_node("n1", cpus=0),
        ray_node("n2", memory=2.5 * GIB),
        ray_node("n3", gpus=1, labels=a10g, leasable=False),
        ray_node("n4", gpus=1, memory=2 * GIB, labels=a10g),
        ray_node("n5", gpus=1, labels=strange),
    ]
    rows = status({n.id: n for n in nodes}, rules, WhatFits(load_catalogue(), CPU))
    assert [(r.name, r.role, r.kind, r.exclusive) for r in rows] == [
        ("n1", "head", "cpu", True),
        ("n2", "worker", "cpu", True),
        ("n3", "worker", "a10g-24g", False),
        ("n4", "worker", "a10g-24g", True),
        ("n5", "worker", "B300", True),
    ]
    by_model = {row.name: {each.model: each for each in row.models} for row in rows}
    assert by_model["n1"] == {} and by_model["n2"]["vader"].fits and by_model["n2"]["BERT-tiny"].fits
    # 3.8e9 parameters of 4 bytes are 14 GiB: more than 2.5 GiB of memory hold, less than 22.5 GiB on the GPU.
    big, small = by_model["n2"]["Phi-3-mini"], by_model["n3"]["Phi-3-mini"]
    assert not big.fits and "GiB of memory, but the node has 2.5 GiB of memory" in big.reason and small.fits
    narrow = by_model["n2"]["MobileBERT"]
    assert not narrow.fits and narrow.options.startswith("--train max_device_batch_size=")
    lines = sentences(rows)
    assert lines[0].startswith("n2: majority, vader") and any(line.startswith("n3: majority") for line in lines)
    assert any(line.startswith("  Phi-3-mini does not fit: needs 1 CPU, ") for line in lines)
    assert any("the GPU memory of class B300 is not known" in line for line in lines)


def test_what_fits_is_what_a_run_would_start_there():
    """The same need that a task has decides: one GPU too small, two of them large enough for a model that is spread."""
    what_fits, t4 = WhatFits(load_catalogue(), CPU), load_catalogue(None).devices["t4-16g"]

    def verdict(num_gpus, gib):
        where = Node("n", "n", num_cpus=4, memory_bytes=64 * GIB, num_gpus=num_gpus, gpu_memory_bytes=int(gib * GIB),
                     devices=frozenset({"cpu", "cuda"}))  # fmt: skip
        return next(each for each in what_fits.on(where, t4) if each.model == "Phi-3-mini")

    assert (
        not verdict(1, 4).fits
        and "on one GPU or spread over several, but the node has 1 GPU of 4 GiB" in verdict(1, 4).reason
    )
    assert verdict(1, 80).fits and verdict(4, 14).fits
