"""`moodbench run` on a data set of the hub, from download to board, and filling the caches beforehand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import hub_data
from hub_server import HubServer

pytestmark = pytest.mark.integration
FETCH = """
from moodbench.config import load_catalogue
from moodbench.data.fetching import fetch_dataset
print(fetch_dataset("sst2", load_catalogue().dataset("sst2")))
"""


def environment(folder, hub, **more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PYTHONDONTWRITE"))}
    caches = {"HF_HOME": str(folder / "hf"), "MOODBENCH_CACHE": str(folder / "cache"), "HF_HUB_DISABLE_XET": "1"}
    return kept | caches | {"HF_ENDPOINT": hub.url} | more


def run(arguments, folder, env):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )


def test_a_run_on_sst2_fetched_before_ends_with_a_board_without_a_network(tmp_path, config):
    with HubServer() as hub:
        repository, files = hub_data.REPOSITORIES["sst2"]
        commit = hub.add("dataset", repository, files()).commit
        fetched = run(["-c", FETCH], tmp_path, environment(tmp_path, hub))
        assert fetched.stdout == (
            f"data set sst2: stanfordnlp/sst2 (default) at {commit[:12]}, Hugging Face hub; 350 train, 50 validation, 60 test "
            "texts\n"
        ), fetched.stderr
        asked = len(hub.requests)
        arguments = ["run", "--models", "vader", "tfidf-logreg", "--dataset", "sst2", "--protocol", "short", "--config",
                     str(config), "--executor", "inline", "--json"]  # fmt: skip
        done = run(["-m", "moodbench", *arguments], tmp_path, environment(tmp_path, hub, HF_HUB_OFFLINE="1"))
        assert done.returncode == 0, done.stderr
        assert len(hub.requests) == asked
    (track,) = json.loads(done.stdout)["tracks"] if "tracks" in json.loads(done.stdout) else [json.loads(done.stdout)]
    assert "licence: not stated (card says unknown)" in done.stderr and f"at {commit[:12]}" in done.stderr
    store = tmp_path / "results"
    (examples,) = store.glob("examples/*/*.parquet")
    table = pq.read_table(examples)
    assert table.num_rows == 460 and not any(table["private"].to_pylist())
    fits = [pq.read_table(path).to_pylist()[0] for path in store.glob("fits/**/*.parquet")]
    assert {fit["model"] for fit in fits} == {"vader", "tfidf-logreg"}
    assert all(json.loads(fit["spec"])["dataset"]["hub"]["revision"] == commit for fit in fits)
    assert track
