"""Fixtures of whole trials: one small run on local Ray that many tests read, tiny checkpoints, a hub on loopback."""

import json
from pathlib import Path

import pytest
from command_line import SHORT, made_once, moodbench_process
from hub_server import HubServer, point_at

from moodbench.runtime.forkserver import fork_server
from moodbench.runtime.process import environment_of


@pytest.fixture(scope="session", autouse=True)
def _fork_server():
    """Fork the workers of all tests from one process per test process, which has imported torch once."""
    with fork_server("moodbench.worker", environment_of(1)):
        yield


@pytest.fixture(scope="session")
def config(tmp_path_factory) -> Path:
    """An overlay with a preset and a protocol that take seconds."""
    path = tmp_path_factory.mktemp("config") / "short.yaml"
    path.write_text(SHORT)
    return path


@pytest.fixture(scope="session")
def ray_run(tmp_path_factory, config):
    """The folder of a run on local Ray, with its store in results/, and what the command printed as JSON. Only read it."""

    def make(folder):
        done = moodbench_process("run", "small", "--config", config, "--json", cwd=folder)
        (folder / "printed.json").write_text(done.stdout)

    folder = made_once(tmp_path_factory, "ray-run", make)
    return folder, json.loads((folder / "printed.json").read_text())


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> dict[str, bytes]:
    """The files of a tiny BERT with random weights, by name."""
    from tiny_models import save_checkpoint  # it loads torch, which most tests here leave to processes

    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(folder, "bert", decoder=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on loopback that this process takes for the hub, with caches of its own."""
    with HubServer() as server:
        point_at(server, tmp_path, monkeypatch)
        yield server
