"""What the server of the page refuses before Gradio sees it, and the headers of every answer."""

import asyncio
import re
import subprocess
import sys

import gradio
import httpx
import pytest
import uvicorn
from gradio.routes import App

from moodbench.app.guard import FREE_ATTEMPTS, HEADERS, MAX_WAIT_S, Guard, LoginAttempts

HERE = "http://192.0.2.7:7860"
"""The address on which the stand-in listens."""


async def everything(scope, receive, send):
    """Answer each request with 200 and a header that the guard replaces."""
    headers = [(b"x-frame-options", b"ALLOWALL"), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": str(dict(scope["headers"])).encode()})


def answered(method="GET", path="/", app=everything, names=(), **headers) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=Guard(app, names))
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            return await client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return asyncio.run(asked())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("192.0.2.7:7860", 200),  # the address that was connected to
        ("192.0.2.7", 200),
        ("localhost:9000", 200),  # through an SSH tunnel
        ("LOCALHOST.", 200),
        ("127.0.0.1", 200),
        ("[::1]:7860", 200),
        ("[0:0:0:0:0:0:0:1]", 200),
        ("Reviews.example.org", 200),
        ("192.0.2.8:7860", 421),
        ("evil.example", 421),
        ("evil.example:7860", 421),
        ("localhost.evil.example", 421),
        ("reviews.example.org.evil.example", 421),
        ("sub.reviews.example.org", 421),
        ("localhost@evil.example", 421),
        ("localhost:7860@evil.example", 421),
        ("localhost, evil.example", 421),
        ("", 421),
        ("[::2]", 421),
        ("[::ffff:192.0.2.7]:7860", 200),
    ],
)
def test_a_page_answers_to_its_address_this_machine_and_the_names_given(host, status):
    given = {"names": ("reviews.example.org",)}
    answer = answered(host=host, **given)
    assert answer.status_code == status
    assert status == 200 or "--allow-host NAME" in answer.text
    # A proxy may name the host in a header of its own, from which Gradio makes the addresses in its answers.
    assert answered(host="localhost", x_forwarded_host=host, **given).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:7860", 200),
        ("https://localhost:7860", 200),  # TLS ends at a proxy
        ("https://reviews.example.org", 200),
        ("http://reviews.example.org:7860", 200),
        ("http://reviews.example.org:9999", 403),
        ("http://localhost:8888", 403),  # another program of this machine
        ("http://localhost", 403),
        ("http://127.0.0.1:7860", 403),  # a name of this machine, but not that of the request
        ("https://evil.example", 403),
        ("https://localhost.evil.example:7860", 403),
        ("null", 403),
        ("file://", 403),
        ("localhost:7860", 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_only_the_page_itself_may_send_requests_from_a_browser(method, origin, status):
    path = "/" if method == "GET" else "/gradio_api/run/predict"
    asked = {"names": ("reviews.example.org",), "host": "localhost:7860"}
    assert answered(method, path, origin=origin, **asked).status_code == status
    assert answered(method, path, **asked).status_code == 200, "programs send no origin"


def test_a_preflight_request_of_another_site_is_refused():
    asked = {"origin": "https://evil.example", "access_control_request_method": "POST"}
    answer = answered("OPTIONS", "/gradio_api/run/predict", **asked)
    assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers


def test_every_answer_has_the_headers_once_refusals_too():
    for answer in (answered(), answered(host="evil.example"), answered("POST", "/gradio_api/upload")):
        for name, value in HEADERS.items():
            assert answer.headers.get_list(name.decode()) == [value.decode()]


def test_a_header_from_which_gradio_would_take_its_address_does_not_reach_it():
    assert "evil" not in answered(x_gradio_server="https://evil.example").text
    assert "kept" in answered(x_other="kept").text


def routes_of_gradio() -> set[tuple[str, str]]:
    """Method and path of each route of the installed Gradio, with the parts of a path filled in."""

    async def made() -> App:
        with gradio.Blocks(analytics_enabled=False) as blocks:
            gradio.Textbox()
        return App.create_app(blocks)

    paths = asyncio.run(made()).openapi()["paths"]
    return {(method.upper(), re.sub(r"{\w+}", "x", path)) for path, methods in paths.items() for method in methods}


def test_of_gradios_routes_only_those_of_the_page_can_be_reached():
    routes = routes_of_gradio()
    open_posts = {path.rstrip("/") for m, path in routes if m == "POST" and answered(m, path).status_code == 200}
    assert open_posts == {"/login", "/gradio_api/run/x", "/gradio_api/reset", "/gradio_api/cancel"}
    refused = {path for method, path in routes if answered(method, path).status_code == 404}
    for part in ("upload", "upload_progress", "process_recording", "component_server", "stream/x", "queue/join",
                 "proxy=x", "deep_link", "call/x", "vibe-edit"):  # fmt: skip
        assert f"/gradio_api/{part}" in refused, f"{part} is a route of Gradio and is refused"
    assert not {"/", "/config", "/theme.css", "/assets/x", "/gradio_api/file=x"} & refused


@pytest.mark.parametrize(
    "path",
    ["/gradio_api//upload", "/gradio_api/run/../upload", "//gradio_api/upload", "/gradio_api/upload/", "/GRADIO_API/upload",
     "/gradio_api/file=https://evil.example/x", "/gradio_api/run/%2e%2e/upload"],
)  # fmt: skip
def test_a_route_cannot_be_reached_by_another_spelling(path):
    assert {answered(method, path).status_code for method in ("GET", "POST", "PUT", "DELETE")} == {404}


class Door:
    """Stand-in for a login: right or wrong by the last letter of the path's query; notes the waits before it."""

    def __init__(self) -> None:
        self.now, self.waits, self.answers = 0.0, [], []
        self.attempts = LoginAttempts(clock=lambda: self.now)
        self.guard = Guard(self.answer, attempts=self.attempts, sleep=self.sleep)

    async def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    async def answer(self, scope, receive, send):
        status = 200 if scope["query_string"] == b"right" else 400
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def knock(self, client="198.51.100.1", query="wrong"):
        transport = httpx.ASGITransport(app=self.guard, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as visitor:
            answer = await visitor.post(f"/login?{query}")
        self.answers.append(answer.status_code)


def test_failed_logins_of_a_client_wait_longer_and_longer():
    door = Door()

    async def story():
        for _ in range(FREE_ATTEMPTS + 7):
            await door.knock()
        assert door.waits == [0, 0, 0, 1, 2, 4, 8, 16, 30, 30] and MAX_WAIT_S == 30
        await door.knock("198.51.100.2")
        assert door.waits[-1] == 0, "another visitor does not wait"
        await door.knock(query="right")
        assert (door.waits[-1], door.answers[-1]) == (30, 200)
        await door.knock()
        assert door.waits[-1] == 0, "a success clears the failures"
        for _ in range(5):
            await door.knock()
        assert door.waits[-1] == 4
        door.now += 3600
        await door.knock()
        assert door.waits[-1] == 0, "and so does an hour"

    asyncio.run(story())


def test_attempts_at_the_same_time_do_not_go_round_the_wait():
    door = Door()

    async def story():
        await asyncio.gather(*(door.knock() for _ in range(20)))
        assert sorted(set(door.answers)) == [400, 429] and door.answers.count(400) == 1
        await asyncio.gather(*(door.knock(f"2001:db8::{number}") for number in range(1, 9)))
        assert door.answers.count(400) == 2, "addresses of one network of 64 bits are one client"
        await asyncio.gather(*(door.knock(f"::ffff:192.0.2.{number}") for number in (1, 2)))
        assert door.answers.count(400) == 4, "but not IPv4 addresses on a socket of both families"

    asyncio.run(story())


def test_the_failures_of_few_clients_are_kept(monkeypatch):
    from moodbench.app import guard

    monkeypatch.setattr(guard, "MAX_CLIENTS", 2)
    attempts = LoginAttempts(clock=lambda: 0.0)
    for client in ("a", "b", "c"):
        for _ in range(4):
            attempts.ended(client, success=False)
    assert [attempts.wait_s(client) for client in ("a", "b", "c")] == [0, 2, 2]


def test_a_websocket_is_refused():
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"localhost")], "server": ("127.0.0.1", 1)}
    asyncio.run(Guard(everything)(scope, None, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_a_login_behind_a_proxy_waits_by_the_address_that_a_trusted_proxy_passes_on(monkeypatch):
    """As docs/page.md says: X-Forwarded-For counts from this machine and from FORWARDED_ALLOW_IPS alone."""

    async def waits(proxy: str, *visitors: str) -> list[float]:
        door = Door()
        served = uvicorn.Config(door.guard)  # what Gradio gives its server, without options for proxies
        served.load()
        transport = httpx.ASGITransport(app=served.loaded_app, client=(proxy, 1))
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            for visitor in visitors:
                await client.post("/login?wrong", headers={"x-forwarded-for": visitor})
        return door.waits

    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    one, other = ["198.51.100.1"] * 4, ["198.51.100.2"]
    assert asyncio.run(waits("127.0.0.1", *one, *other)) == [0, 0, 0, 1, 0]
    assert asyncio.run(waits("192.0.2.9", *one, *other)) == [0, 0, 0, 1, 2], "they count as one client"
    assert asyncio.run(waits("127.0.0.1", *(f"203.0.113.{i}, 198.51.100.1" for i in range(4)))) == [0, 0, 0, 1], (
        "what a visitor adds before the proxy does not count"
    )
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.9")
    assert asyncio.run(waits("192.0.2.9", *one, *other)) == [0, 0, 0, 1, 0]


UNGUARDED = """
import gradio, httpx, sys
from moodbench.cli import main
launch, pages = gradio.Blocks.launch, []
def unguarded(page, **options):
    pages.append(page)
    return launch(page, **{**options, "app_kwargs": {}})
gradio.Blocks.launch = unguarded
gradio.Blocks.block_thread = lambda page: print("served")
try:
    main(["app", "--store", "results"])
except SystemExit as ended:
    print("code", ended.code)
try:
    httpx.get(f"http://127.0.0.1:{pages[0].server_port}/", trust_env=False)
except httpx.ConnectError:
    print("closed")
"""


def test_a_page_whose_server_has_no_guard_is_closed_and_not_served(tmp_path):
    command = [sys.executable, "-c", UNGUARDED]  # Gradio leaves event loops open in the process of its page
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.split() == ["code", "2", "closed"], done.stderr
    assert "without the checks of hosts, origins, routes and logins; install the version" in done.stderr
