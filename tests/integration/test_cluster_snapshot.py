"""What Live adds of a Ray cluster, seen on a real one of one node; and that no Ray is no fault."""

import socket
import threading
import time

import pytest
import toy_store

from moodbench.app.live import cluster_html, render
from moodbench.app.tab import Services
from moodbench.app.url_state import State
from moodbench.runtime.ray_cluster import EVERY_S, ClusterMonitor, ClusterSnapshot, RayNode, take_snapshot
from moodbench.runtime.ray_internals import cluster_environment, private_token
from moodbench.runtime.ray_local import TOKEN, start_ray

pytestmark = pytest.mark.integration
GIB = 2**30


def test_a_real_ray_tells_its_node_and_what_is_free_of_it():
    ray = start_ray(2, memory_bytes=GIB)
    try:
        address = ray.get_runtime_context().gcs_address

        @ray.remote(num_cpus=1.5)
        class Holder:
            def ready(self):
                return True

        holder = Holder.remote()
        assert ray.get(holder.ready.remote())
        end = time.monotonic() + 60
        while True:  # a node tells its head now and then what is free
            with private_token(TOKEN):
                seen = take_snapshot(address, timeout_s=60)
            assert seen.problem == ""
            assert len(seen.nodes) == 1
            node = seen.nodes[0]
            if node.free.get("CPU", 0) == 0.5 or time.monotonic() > end:
                break
        assert (node.resources["CPU"], node.free["CPU"], node.resources["memory"]) == (2, 0.5, GIB)
        assert node.name == socket.gethostname() and node.status == "running"
        html = cluster_html(seen)
        assert socket.gethostname() in html and "0.5 of 2" in html and "1.0 of 1.0 GiB" in html and address in html
    finally:
        ray.shutdown()


def test_a_private_token_is_not_shown_to_the_cluster_that_another_thread_looks_at(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # where no token is
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    seen = []
    looking = threading.Thread(target=lambda: seen.append(cluster_environment()))
    with private_token("ours alone"):
        looking.start()
        looking.join(0.2)
        assert seen == [], "it waits until the private one is gone"
    looking.join(10)
    assert (seen[0]["RAY_AUTH_MODE"], seen[0].get("RAY_AUTH_TOKEN")) == ("disabled", None)


def test_where_nothing_listens_the_reason_is_told_at_once():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        began = time.monotonic()
        seen = take_snapshot(address)
    assert seen.nodes == () and "nothing answers there" in seen.problem and time.monotonic() - began < 5
    assert "nothing answers there" in cluster_html(seen) and "log" in cluster_html(seen)


def test_live_shows_the_nodes_above_the_runs_and_is_whole_without_them(tmp_path):
    store = toy_store.write_toy_store(tmp_path / "results")
    node = RayNode("id", "n<1>", "10.0.0.1", {"CPU": 4.0, "exclusive": 1.0}, free={"CPU": 1.5})
    with_nodes, unasked, alone = (
        render(store, State(), Services(cluster=cluster))[0]
        for cluster in (lambda: ClusterSnapshot("10.0.0.1:6379", (node,)), lambda: None, None)
    )
    assert "n&lt;1&gt;" in with_nodes and "1.5 of 4" in with_nodes and "exclusively" in with_nodes
    assert with_nodes.endswith(alone) and unasked == alone != with_nodes


def test_another_service_is_given_up_when_the_time_is_over():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        seen = take_snapshot(f"127.0.0.1:{deaf.getsockname()[1]}", timeout_s=1.0)
    assert seen == ClusterSnapshot(seen.address, problem="no answer in 1 s")


def test_the_page_never_waits_and_asks_now_and_then():
    now, asked = [0.0], []

    def slow(address):
        asked.append(address)
        return ClusterSnapshot(address, (RayNode("id", "n", "10.0.0.1", {"CPU": 4.0}, free={"CPU": 4.0}),))

    monitor = ClusterMonitor("10.0.0.1:6379", slow, lambda: now[0])
    monitor.latest()
    monitor.wait(10)
    assert monitor.latest().nodes[0].name == "n" and len(asked) == 1
    now[0] += EVERY_S - 1
    monitor.latest()
    assert len(asked) == 1
    now[0] += 1
    monitor.latest()
    monitor.wait(10)
    assert len(asked) == 2
