"""The edge of the page's server: the hosts, origins, routes and logins that it accepts, and the headers of answers."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from moodbench.errors import PrerequisiteError

MAX_BODY_BYTES = 512 * 1024
"""Largest body of a request. The longest text of Try it takes 240 KiB as escaped JSON."""
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
HOST_HEADERS = ("host", "x-forwarded-host")
"""Headers from which Gradio makes the addresses in its answers."""
GRADIO_SERVER = b"x-gradio-server"
"""Header of Gradio's own proxy, which would replace the host; the page has no such proxy, so it is dropped."""
ROUTES: Mapping[str, re.Pattern[str]] = {
    "GET": re.compile(
        r"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(assets|static|svelte)/.+"
        r"|/gradio_api/(app_id|info|login_check|startup-events|theme\.css)/?"
        r"|/gradio_api/heartbeat/\w+|/gradio_api/file=(?!https?:).+"
    ),
    "POST": re.compile(r"/login/?|/gradio_api/(run/\w+|reset|cancel)/?"),
}
"""Paths that the page needs, by method. Gradio has others: uploads, recordings, proxies, queues, stored links."""
HEADERS: Mapping[bytes, bytes] = {
    b"x-content-type-options": b"nosniff",
    b"content-security-policy": b"frame-ancestors 'self'; object-src 'none'; base-uri 'self'; form-action 'self'",
    b"x-frame-options": b"SAMEORIGIN",
    b"referrer-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
"""Headers of every answer. Scripts and styles are not restricted, because Gradio's page contains some of both."""
FREE_ATTEMPTS = 3
"""Number of failed logins of a client after which its next attempts wait: 1 s, 2 s, 4 s ..."""
MAX_WAIT_S = 30.0
FORGET_AFTER_S = 15 * 60.0
"""Seconds without an attempt after which the failures of a client are forgotten."""
MAX_CLIENTS = 10_000

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Netloc(NamedTuple):
    """A host and its port as a header gives them, with the name in lower case and addresses in canonical form."""

    name: str
    port: str | None

    @classmethod
    def parse(cls, text: str) -> Netloc | None:
        """Return the host and the port of a Host header, None if it is malformed."""
        found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/@\[\]]+)(?::(\d{1,5}))?", text.strip())
        return None if found is None else cls(host_name(found[1]), found[2])


class Refusal(NamedTuple):
    """Status and text of the answer to a request that is not accepted."""

    status: int
    text: str


def host_name(text: str) -> str:
    """Return a host name in lower case without a final dot, or an IP address in canonical form without brackets."""
    name = text.strip("[]").rstrip(".").lower()
    try:
        address = ip_address(name)
    except ValueError:
        return name
    return str(getattr(address, "ipv4_mapped", None) or address)  # a socket of both families gives mapped addresses


@dataclass
class Failures:
    """Failed logins of one client in a row."""

    number: int
    last_at: float
    """Time of the last one, in seconds of the clock."""


class LoginAttempts:
    """Failed logins by client, and how long the next attempt of each waits; attempts of one client do not overlap."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, Failures] = OrderedDict()
        self.pending: set[str] = set()
        """Clients with an attempt in progress."""

    def wait_s(self, client: str) -> float:
        """Return the seconds that the next attempt of `client` waits."""
        found = self._failures.get(client)
        if found is None or found.number < FREE_ATTEMPTS or self._clock() - found.last_at > FORGET_AFTER_S:
            return 0.0
        return min(2.0 ** min(found.number - FREE_ATTEMPTS, 10), MAX_WAIT_S)

    def ended(self, client: str, *, success: bool) -> None:
        """Record the end of an attempt."""
        earlier = self._failures.pop(client, None)
        if success:
            return
        now = self._clock()
        is_recent = earlier is not None and now - earlier.last_at <= FORGET_AFTER_S
        self._failures[client] = Failures(1 + (earlier.number if earlier is not None and is_recent else 0), now)
        while len(self._failures) > MAX_CLIENTS:
            self._failures.popitem(last=False)


class Guard:
    """ASGI application before another one: refuses requests, slows logins, and adds HEADERS to every answer.

    `names` are the host names that the page answers to besides LOCAL_NAMES and the address that was connected to.
    """

    def __init__(
        self,
        app: App,
        names: Collection[str] = (),
        *,
        attempts: LoginAttempts | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._app = app
        self._names = frozenset(host_name(name) for name in names)
        self._attempts = attempts or LoginAttempts()
        self._sleep = sleep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in HEADERS]
                message = {**message, "headers": [*kept, *HEADERS.items()]}
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(scope, refusal, send_with_headers)
            return
        scope = {**scope, "headers": [(n, value) for n, value in scope["headers"] if n.lower() != GRADIO_SERVER]}
        is_login = scope["method"] == "POST" and scope["path"].rstrip("/") == "/login"
        await (self._login if is_login else self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Refusal | None:
        """Return why a request is not accepted, None if it is."""
        hosts = _header_values(scope, *HOST_HEADERS)
        known = [Netloc.parse(host) for host in hosts]
        local = host_name((scope.get("server") or ("",))[0])
        answered = LOCAL_NAMES | self._names | {local}
        accepted = [netloc for netloc in known if netloc is not None and netloc.name in answered]
        if not hosts or len(accepted) < len(known):
            foreign = next((h for h, n in zip(hosts, known, strict=True) if n is None or n.name not in answered), "")
            return Refusal(421, f"This page does not answer to the host {foreign!r}; --allow-host NAME allows a name.")
        for origin in _header_values(scope, "origin"):
            if not self._is_own(origin, accepted):
                return Refusal(403, f"Requests from {origin!r} are refused: only this page itself may send them.")
        method = "GET" if scope.get("method") == "HEAD" else scope.get("method", "")
        route = ROUTES.get(method)
        if route is None or route.fullmatch(scope["path"]) is None:
            return Refusal(404, "Not part of this page.")
        return None

    def _is_own(self, origin: str, hosts: Collection[Netloc]) -> bool:
        """Return whether `origin` is the page: a host of the request, or a given name at the usual or at its port."""
        scheme, _, rest = origin.partition("://")
        found = Netloc.parse(rest)
        if scheme not in ("http", "https") or found is None:
            return False
        ports = {None, *(host.port for host in hosts)}
        return found in hosts or (found.name in self._names and found.port in ports)

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on an attempt to log in, after a wait if the client has failed several times."""
        client, attempts = _client_network(scope), self._attempts
        if client in attempts.pending:
            await _refuse(scope, Refusal(429, "Another attempt to log in is in progress; wait for its answer."), send)
            return
        status: list[int] = []

        async def send_and_note(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
            await send(message)

        attempts.pending.add(client)
        try:
            await self._sleep(attempts.wait_s(client))
            await self._app(scope, receive, send_and_note)
        finally:
            attempts.pending.discard(client)
            attempts.ended(client, success=status[:1] == [200])


def _header_values(scope: Scope, *names: str) -> list[str]:
    """Return all values of the headers `names`, in their order, lists split at the commas."""
    given = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
    return [part.strip() for wanted in names for name, value in given if name == wanted for part in value.split(",")]


def _client_network(scope: Scope) -> str:
    """Return the address of the client; of an IPv6 address its network of 64 bits, in which clients choose freely."""
    address = host_name((scope.get("client") or ("",))[0])
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ip_network((parsed, 64), strict=False))


async def _refuse(scope: Scope, refusal: Refusal, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.text})
        return
    body = refusal.text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 429:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def guarded(names: Collection[str]) -> dict[str, Any]:
    """Return the `app_kwargs` of Gradio's launch that put a Guard before its server and limit the size of bodies."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        # Middleware given to FastAPI would stand behind Gradio's own, which answers CORS preflights itself.
        app.middleware_stack = Guard(app.middleware_stack, names)
        yield

    return {"lifespan": lifespan, "max_body_size": MAX_BODY_BYTES}


def refuse_unguarded(page: Any, app: Any) -> None:
    """Close the launched `page` unless a Guard stands before its server `app`.

    Raises: PrerequisiteError if none does, as where Gradio does not use the lifespan that `guarded` gives.
    """
    if isinstance(getattr(app, "middleware_stack", None), Guard):
        return
    page.close(verbose=False)
    raise PrerequisiteError(
        f"the page was not opened: Gradio {version('gradio')} started its server without the checks of hosts, origins, "
        "routes and logins; install the version that uv.lock names, as with `uv sync`, then start the page again"
    )
