"""The app as a process: whom it serves, and what it refuses."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from page_store import MACHINE, Page, four_entries, write_trial

from moodbench.app.snapshot import CHECK_EVERY_S
from moodbench.report.formatting import cells
from moodbench.report.leaderboard_view import view_leaderboard

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path):
    return four_entries(tmp_path / "results")


def test_the_app_serves_the_board_to_this_machine_alone(store):
    port = _free_port()
    command = [sys.executable, "app.py", "--store", store.uri, "--port", str(port)]
    behind_a_proxy = os.environ | {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "example.org"}
    app = subprocess.Popen(
        command, cwd=ROOT, env=behind_a_proxy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        _wait(app, f"http://127.0.0.1:{port}/")
        listening = [c.laddr for c in psutil.Process(app.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert [(a.ip, a.port) for a in listening] == [("127.0.0.1", port)]
        config = _json(f"http://127.0.0.1:{port}/config")
        assert {d["api_visibility"] for d in config["dependencies"]} == {"private"}
        (opened,) = (d["id"] for d in config["dependencies"] if d["targets"][0][1] == "load")
        assert Page(_call(port, opened)).tables[0] == cells(view_leaderboard(store, MACHINE).rows).to_numpy().tolist()
        write_trial(store, 5, "finished-meanwhile", 0.5, {})
        until = time.monotonic() + 60
        while "finished-meanwhile" not in _call(port, opened):
            assert time.monotonic() < until, "a change is seen"
            time.sleep(CHECK_EVERY_S / 2)
    finally:
        app.terminate()
        said = app.communicate(timeout=60)[0]
    assert f"http://127.0.0.1:{port}/" in said and "Traceback" not in said


def test_the_app_refuses_a_folder_of_something_else_in_one_line(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    done = subprocess.run(
        [sys.executable, "app.py", "--store", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "is not a MoodBench store (it holds thesis.tex)" in done.stderr and "Traceback" not in done.stderr


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _call(port: int, fn_index: int) -> str:
    """The table that a callback of the page returns, asked as the page asks."""
    body = {"data": [], "fn_index": fn_index}
    answer = _json(f"http://127.0.0.1:{port}/gradio_api/run/predict", body)["data"]
    html, *_ = (value for value in answer if isinstance(value, str) and "<tbody" in value)
    return html


def _json(url: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return json.load(answer)


def _wait(app: subprocess.Popen, url: str, limit_s: float = 120) -> None:
    """Nothing, once `url` answers with 200."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        assert app.poll() is None, app.communicate()[0]
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except urllib.error.URLError:
            time.sleep(0.2)
    pytest.fail(f"{url} did not answer within {limit_s:.0f} s")
