"""The page as a server: what it refuses over HTTP, and what it says of who can open it."""

import json
import os
import re
import socket
import subprocess
import sys
import time

import httpx
import pytest
from page_store import four_entries

from moodbench.app.guard import HEADERS, MAX_BODY_BYTES
from moodbench.app.try_it import MAX_TEXT

pytestmark = pytest.mark.integration


class Server:
    """A page of a small store, served by a process of its own under one name besides those of this machine."""

    def __init__(self, folder) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uploads, store = folder / "gradio", four_entries(folder / "results")
        command = [sys.executable, "-m", "moodbench", "app", "--store", store.uri, "--port", str(self.port),
                   "--allow-host", "reviews.example.org", "--allow-runs"]  # fmt: skip
        self.log = folder / "log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=os.environ | {"GRADIO_TEMP_DIR": str(self.uploads)}, stdout=out, stderr=subprocess.STDOUT
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=60)
        until = time.monotonic() + 120
        while "are at http" not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)
        self.config = self.client.get("/config").json()
        self.components = {each["id"]: each for each in self.config["components"]}

    def id_of(self, elem_id: str) -> int:
        (found,) = (i for i, each in self.components.items() if each["props"].get("elem_id") == elem_id)
        return found

    def sent(self, elem_id: str, event: str, open_key: str | None = None, **values) -> httpx.Response:
        """The answer to an event of a component, where the components of these ids (- as _) hold these values."""
        (fn,) = (
            d for d in self.config["dependencies"] if [self.id_of(elem_id), event] in d["targets"] and d["backend_fn"]
        )
        given = {self.id_of(name.replace("_", "-")): value for name, value in values.items()}
        data = [given.get(i, self.components[i]["props"].get("value")) for i in fn["inputs"]]
        if open_key is not None:
            data[0] = open_key
        body = {"data": data, "fn_index": fn["id"], "session_hash": "s"}
        return self.client.post("/gradio_api/run/predict", json=body)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.client.close()
    made.process.terminate()
    made.process.wait(60)
    assert "Traceback" not in made.log.read_text()


def test_a_foreign_host_or_origin_is_refused_and_a_given_name_is_not(server):
    def status(method="GET", path="/", **headers):
        return server.client.request(
            method, path, headers={k.replace("_", "-"): v for k, v in headers.items()}
        ).status_code

    assert [status(), status(host="localhost:1"), status(host="reviews.example.org")] == [200] * 3
    assert status(host="evil.example") == status(x_forwarded_host="evil.example") == 421
    for method, path in (
        ("GET", "/config"),
        ("POST", "/gradio_api/run/predict"),
        ("OPTIONS", "/gradio_api/run/predict"),
    ):
        asked = {"origin": "https://evil.example", "access_control_request_method": "POST"}
        assert status(method, path, **asked) == 403
        assert status(method, path, host="evil.example", **asked) == 421, (
            "also where the name was rebound to this machine"
        )
    assert status("GET", "/config", origin=f"http://127.0.0.1:{server.port}") == 200


def test_no_file_can_be_uploaded(server):
    for path in ("upload", "upload?upload_id=x", "process_recording"):
        assert server.client.post(f"/gradio_api/{path}", files={"files": b"content"}).status_code == 404
    assert not [each for each in server.uploads.rglob("*") if each.is_file()]


def test_every_answer_has_its_headers_and_gradios_assets_are_served(server):
    page = server.client.get("/")
    script = next(link for link in re.findall(r'(?:src|href)="([^"]+\.js)"', page.text) if "assets" in link)
    answers = [page, server.client.get(f"/{script.removeprefix('./')}"), server.client.get("/nothing")]
    answers.append(server.client.post("/gradio_api/run/predict", content=b"x" * (MAX_BODY_BYTES + 1)))
    assert [answer.status_code for answer in answers] == [200, 200, 404, 413]
    for answer in answers:
        assert {name: answer.headers[name.decode()].encode() for name in HEADERS} == HEADERS


def test_a_large_request_is_refused_also_where_its_size_is_not_declared(server):
    def parts():
        for _ in range(MAX_BODY_BYTES // 1024 + 2):
            yield b"x" * 1024

    assert server.client.post("/gradio_api/run/predict", content=parts()).status_code == 413


@pytest.mark.parametrize(("length", "message"), [(MAX_TEXT, None), (MAX_TEXT + 1, "20,001 characters")])
def test_a_text_longer_than_allowed_is_refused_by_the_server(server, length, message):
    (html,) = server.sent("try-ask", "click", try_text="\U0001f600" * length).json()["data"]
    assert ("characters; allowed are up to 20,000" in html) is (message is not None)
    assert message is None or message in html


@pytest.mark.parametrize(
    ("elem_id", "value", "message"),
    [
        ("limit-p99", -5, "Maximum latency, ms: -5; allowed is a number above 0"),
        ("limit-p99", 0, "Maximum latency, ms: 0; allowed is a number above 0"),
        ("limit-memory", -0.5, "Maximum memory, MiB: -0.5; allowed is a number above 0"),
        ("limit-accuracy", -1, "Minimum accuracy, %: -1; allowed is a number from 0 to 100"),
        ("limit-accuracy", 101, "Minimum accuracy, %: 101; allowed is a number from 0 to 100"),
    ],
)
def test_a_limit_out_of_range_is_refused_in_place(server, elem_id, value, message):
    answer = server.sent(elem_id, "change", "which", **{elem_id.replace("-", "_"): value})
    assert answer.status_code == 200 and message in answer.text
    assert "entries are within the limits" not in answer.text, "no answer is given for another limit"


def test_seeds_and_weights_out_of_range_are_no_server_error(server):
    started = server.sent("run-start", "click", run_preset="quickstart", run_seeds=1000)
    assert started.status_code == 200 and "Seeds: 1000; allowed is a whole number from 0 to 10" in started.text
    assert server.sent("w-latency", "input", "leaderboard", w_latency=-5).status_code == 200


@pytest.mark.parametrize("value", [None, -1, 1e300, 10**400, "<b>", [], ["a" * 10] * 70_000, {"a": 1}, [[1]], True])
def test_a_value_that_no_control_sends_is_no_server_error(server, value):
    for elem_id, event, key in (
        ("limit-p99", "change", "which"), ("models", "input", "which"), ("columns", "input", "leaderboard"),
        ("w-f1", "input", "leaderboard"), ("track", "input", "speed"), ("try-ask", "click", None),
        ("run-start", "click", None),
    ):  # fmt: skip
        name = {"try-ask": "try_text", "run-start": "run_models"}.get(elem_id, elem_id.replace("-", "_"))
        answer = server.sent(elem_id, event, key, **{name: value})
        assert answer.status_code == (413 if isinstance(value, list) and len(value) > 60_000 else 200), elem_id


def test_the_page_says_that_others_can_open_it(server):
    said = "Other machines can open this page: a proxy may pass requests on to it and answers to reviews.example.org."
    assert said in server.log.read_text() and said in json.dumps(server.config)
