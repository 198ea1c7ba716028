"""A cluster whose nodes have an address, a process tree and a shared memory each: a job with `ray job submit` that loses a node.

The same command again by `moodbench submit`, and what a person can get wrong about a cluster.
"""

import json
import os
import time

import pytest
from campaign import CLASSES, CONFIG, KINDS, SPEC
from hosts import HEAD, Hosts, events_of, missing, wait_for

from moodbench.store import Store

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=f"no namespaces here: {missing()}"),
]
SHORT_SPEC = SPEC.replace("[MiniLM-L3, tfidf-logreg, vader]", "[MiniLM-L3, tfidf-logreg]")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    for name, text in (("spec.yaml", SHORT_SPEC), ("config.yaml", CONFIG), ("cluster.yaml", CLASSES)):
        (folder / name).write_text(text)
    with Hosts(folder, name=f"mbt{os.getpid()}") as started:
        yield started


def submit(hosts, *words, log, **environment):
    """A started `moodbench submit` on the head, in the folder with the spec."""
    code = f"import os; os.chdir({str(hosts.folder)!r}); from moodbench.cli import main; main({['submit', '--address', 'http://127.0.0.1:8265', '--', *words]!r})"
    return hosts.popen("n1", "-c", code, log=log, **environment)


@pytest.fixture(scope="module")
def matrix(hosts, tmp_path_factory):
    """The store of a matrix given with `ray job submit` from another node than the head; its log; the exit status.

    A node was powered off in the middle of a fit.
    """
    folder = tmp_path_factory.mktemp("matrix")
    store, log = folder / "store", folder / "log"
    words = [
        "ray",
        "job",
        "submit",
        "--address",
        f"http://{HEAD}:8265",
        "--",
        "moodbench",
        "run",
        f"{hosts.folder}/spec.yaml",
    ]
    for name in ("config", "cluster"):
        words += [f"--{name}", f"{hosts.folder}/{name}.yaml"]
    job = hosts.popen_command("n2", *words, "--address", "auto", "--store", str(store), log=log)

    def fitting():
        assert job.poll() is None, log.read_text()[-3000:]
        events = [e for e in events_of(store) if e["event"] == "started" and "MiniLM" in e["trial"]]
        return next((e for e in events if not e["node"].endswith("-n2")), None)  # n2 is where the person sits

    node = wait_for(fitting, 180, "start of a fit")["node"].removeprefix(f"{hosts.name}-")
    time.sleep(1)
    hosts.power_off(node)
    code = job.wait(timeout=420)
    hosts.restore(node)
    return store, log.read_text(), code, node


def test_a_submitted_matrix_ends_well_though_a_node_was_powered_off(matrix):
    store, log, code, node = matrix
    assert code == 0, log[-3000:]
    lost = [e for e in events_of(store) if e["event"] == "job_ended" and e["outcome"] == "infrastructure"]
    assert lost and all(e["node"].endswith(node) and e["retry"] for e in lost)
    assert any(e["event"] == "node_left" for e in events_of(store))


def test_every_trial_has_exactly_one_record_of_each_kind(matrix):
    opened = Store.open(matrix[0])
    for kind in KINDS:
        records = opened.records(kind)
        assert len(records) == len(opened.ids(kind)) == 4


def test_fits_were_spread_over_nodes_and_measurements_overlapped_nothing_on_theirs(matrix):
    opened = Store.open(matrix[0])
    assert opened.records("fits")["node"].nunique() >= 2
    packed = [r for kind in ("fits", "evaluations") for r in opened.records(kind).to_dict("records")]
    measurements = opened.records("measurements").to_dict("records")
    assert {row["isolation"] for row in measurements} == {"resource"}
    for row in measurements:
        others = [turn for r in measurements if r is not row and r["node"] == row["node"] for turn in r["turns"]]
        beside = [r for r in packed if r["node"] == row["node"]]
        for turn in row["turns"]:
            for other in [*beside, *others]:
                assert other["ended_at"] <= turn["started_at"] or other["started_at"] >= turn["ended_at"]


def test_the_log_is_followed_and_plain(matrix):
    told = [line for line in matrix[1].splitlines() if " fit committed" in line or line.startswith("Cluster at")]
    assert len(told) >= 1 + 4 and not any("\x1b" in line for line in told)


def test_the_store_verifies_and_nothing_is_left_over(hosts, matrix):
    done = hosts.run("n1", "-m", "moodbench", "store", "verify", "--store", str(matrix[0]))
    assert done.returncode == 0, done.stdout
    assert not any(hosts.processes(node, "moodbench.worker") for node in ("n1", "n2", "n3", "n4"))


def test_the_same_command_by_moodbench_submit_finds_nothing_left_to_do(hosts, matrix, tmp_path):
    words = ["run", "spec.yaml", "--config", "config.yaml", "--cluster", "cluster.yaml", "--address", "auto"]
    job = submit(hosts, *words, "--store", str(matrix[0]), log=tmp_path / "log")
    assert job.wait(timeout=180) == 0
    said = (tmp_path / "log").read_text()
    assert "12 done already and skipped" in said and "Nothing left to do." in said


def test_a_jobs_exit_status_is_passed_through(hosts, tmp_path):
    job = submit(hosts, "run", "no-such-preset", "--store", str(tmp_path / "s"), log=tmp_path / "log")
    assert job.wait(timeout=120) == 2
    assert "no-such-preset" in (tmp_path / "log").read_text()


def test_a_wrong_token_is_refused_in_a_sentence(hosts, tmp_path):
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    job = submit(hosts, "models", log=tmp_path / "log", RAY_AUTH_TOKEN_PATH=str(wrong))
    assert job.wait(timeout=60) == 2
    assert "RAY_AUTH_TOKEN_PATH" in (tmp_path / "log").read_text()
    address = ["--address", f"{HEAD}:6379", "--store", str(tmp_path / "s")]
    run = hosts.run("n1", "-m", "moodbench", "run", "quickstart", *address, RAY_AUTH_TOKEN_PATH=str(wrong))
    assert run.returncode == 2 and "the cluster refuses this token" in run.stderr.splitlines()[-1]
    assert not (tmp_path / "s").exists()


def run_at(hosts, address, store, *options, before="", **environment):
    """A finished `moodbench run` on the head, after the Python `before` in its process."""
    words = ["run", "quickstart", "--address", address, "--store", str(store), *options]
    return hosts.run("n1", "-c", f"{before}\nfrom moodbench.cli import main; main({words!r})", **environment)


@pytest.mark.parametrize(
    ("address", "said"),
    [(f"{HEAD}:1", "nothing answers there"), (f"{HEAD}:8265", "it does not answer as Ray's head does; is this its port (6379)?")],
)  # fmt: skip
def test_a_wrong_port_is_told_from_a_dead_head(hosts, tmp_path, address, said):
    run = run_at(hosts, address, tmp_path / "s")
    assert run.returncode == 2 and said in run.stderr.splitlines()[-1]
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("versions", [("0.0.1", None), (None, "3.11.9")], ids=["another Ray", "another Python"])
def test_a_head_with_other_versions_is_refused_with_both(hosts, tmp_path, versions):
    """Ray asks this function what it is; all else, with the versions that the real head has written down, is Ray's own."""
    before = (
        "import ray._private.utils as utils\n"
        "own = utils.compute_version_info()\n"
        f"utils.compute_version_info = lambda: tuple(given or mine for given, mine in zip({versions!r}, own))"
    )
    run = run_at(hosts, f"{HEAD}:6379", tmp_path / "s", before=before)
    said = run.stderr.splitlines()[-1]
    assert run.returncode == 2 and "the cluster runs another Ray or Python" in said, run.stderr[-2000:]
    assert next(filter(None, versions)) in said and "Install the same versions" in said
    assert not (tmp_path / "s").exists()


def test_a_class_of_which_no_node_is_there_is_named(hosts, tmp_path):
    rules = tmp_path / "cluster.yaml"
    rules.write_text("measure_on: [h100-80g]")
    run = run_at(hosts, f"{HEAD}:6379", tmp_path / "s", "--cluster", str(rules))
    said = run.stderr.splitlines()[-1]
    assert run.returncode == 2 and "measure_on is h100-80g, but the nodes are of class" in said


def test_models_that_no_node_can_ever_run_are_named_with_what_is_missing_where(hosts, tmp_path):
    """MiniLM on texts as large as a GPU needs more memory than any node has."""
    config = tmp_path / "config.yaml"
    config.write_text("training: {train: {max_device_batch_size: 4096, effective_batch_size: 4096}}")
    run = run_at(hosts, f"{HEAD}:6379", tmp_path / "s", "--config", str(config))
    assert run.returncode == 2, run.stderr[-2000:]
    said = run.stderr.splitlines()[-1]
    assert "no node can run MiniLM" in said and "of memory" in said and "Nothing was started" in said
    assert all(f"{hosts.name}-{n} has" in said for n in ("n2", "n3", "n4"))


def test_nodes_that_do_not_share_the_store_are_named_before_anything_starts(hosts):
    address = ["--address", f"{HEAD}:6379", "--store", str(hosts.private / "store")]
    run = hosts.run("n1", "-m", "moodbench", "run", "quickstart", *address)
    assert run.returncode == 2 and "n4 does not see the store's folder" in run.stderr
    assert "Nothing was started" in run.stderr


def test_status_shows_every_node_with_its_class_and_what_fits_there(hosts):
    done = hosts.run("n1", "-m", "moodbench", "cluster", "status", "--address", f"{HEAD}:6379", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"].rpartition("-")[2]: row for row in json.loads(done.stdout)}
    kinds = {name: row["kind"] for name, row in rows.items()}
    assert kinds == {"n1": "cpu", "n2": "a10g-24g", "n3": "A100", "n4": "cpu"}
    fitting = {name: {each["model"] for each in row["models"] if each["fits"]} for name, row in rows.items()}
    assert fitting["n1"] == set() and "BERT-tiny" in fitting["n4"] and "BERT-base" in fitting["n2"] - fitting["n4"]
