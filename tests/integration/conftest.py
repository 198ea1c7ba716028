"""One small run on local Ray that many tests look at: three contenders, few texts, a short protocol."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer, point_at

SHORT = """
evaluation:
  protocols:
    short: {processes: 2, requests: 50, window_requests: 25, warmup_s: 0, batch_sizes: [1, 8], batch_seconds: 0.1,
            batch_repeats: 1, max_attempts: 1, backoff_s: 0, quick: true}
presets:
  small:
    description: three contenders on few tweets
    models: [tfidf-logreg, MiniLM-L3, MiniLM-L6-probe]
    datasets: [icwsm-tweets]
    max_train_examples: 96
    max_validation_examples: 48
    protocol: short
    train: {epochs: 1, evaluations_per_epoch: 1}
"""


def moodbench(*arguments, cwd, code=0):
    """The finished process of a moodbench command, which must have ended with `code`."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-m", "moodbench", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=500,
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def config(tmp_path_factory) -> Path:
    """An overlay with a preset and a protocol that take seconds."""
    path = tmp_path_factory.mktemp("config") / "short.yaml"
    path.write_text(SHORT)
    return path


@pytest.fixture(scope="session")
def ray_run(tmp_path_factory, config):
    """The folder of a run on local Ray, with its store in results/, and what the command printed as JSON."""
    folder = tmp_path_factory.mktemp("ray-run")
    done = moodbench("run", "small", "--config", config, "--json", cwd=folder)
    return folder, json.loads(done.stdout)


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
