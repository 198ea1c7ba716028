"""A served page and a headless Chromium beside it, with no network but loopback; and what went wrong in either.

The server process refuses and notes every connection or name look-up that leaves the machine; the browser cannot
resolve any name, and notes and aborts each request to elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import psutil
from playwright.sync_api import BrowserContext, Page, sync_playwright

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--disable-domain-reliability", "--metrics-recording-only", "--no-pings",
    "--disable-features=OptimizationHints,MediaRouter,AutofillServerCommunication,InterestFeedContentSuggestions",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
]  # fmt: skip
GUARD = """
import os, socket, sys
_log = os.environ.get("NET_GUARD_LOG")
# Ray's own daemon asks at each start in which cloud it is, statistics off or not, and has no switch for it: refused, not noted.
if getattr(sys, "orig_argv", None) and any(a.endswith("ray/dashboard/dashboard.py") for a in sys.orig_argv): _log = None
_ok = {"127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "", None, socket.gethostname(), *os.environ.get("NET_GUARD_OWN", "").split(",")}
def _refuse(kind, host):
    if _log:
        with open(_log, "a") as f: f.write(f"{kind} {host}\\n")
    raise OSError(f"net guard: {kind} {host} refused")
_connect, _look_up = socket.socket.connect, socket.getaddrinfo
def connect(self, address):
    inet = self.family in (socket.AF_INET, socket.AF_INET6)
    if inet and address[0] not in _ok and not str(address[0]).startswith("127."): _refuse("connect", address)
    return _connect(self, address)
def getaddrinfo(host, *a, **k):
    name = host.decode() if isinstance(host, bytes) else host
    if name not in _ok and not str(name).startswith("127."): _refuse("look-up", name)
    return _look_up(host, *a, **k)
socket.socket.connect, socket.getaddrinfo = connect, getaddrinfo
"""


class Server:
    """A page served by a process of its own."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
        guard = folder / "guard"
        guard.mkdir(parents=True)
        (guard / "sitecustomize.py").write_text(GUARD)
        self.egress_log, self.log = folder / "egress.log", folder / "server.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        path = os.pathsep.join(filter(None, [str(guard), os.environ.get("PYTHONPATH")]))
        here = [a.address for each in psutil.net_if_addrs().values() for a in each]  # Ray talks to itself by these
        own = {
            "NET_GUARD_OWN": ",".join(here),
            "NET_GUARD_LOG": str(self.egress_log),
            "PYTHONPATH": path,
            "GRADIO_TEMP_DIR": str(folder / "gradio"),
        }
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *command, "--port", str(port)], stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, env=os.environ | own | (environment or {}), start_new_session=True,
            )  # fmt: skip

    @property
    def egress(self) -> list[str]:
        """Connections and look-ups that the server tried beyond this machine."""
        return self.egress_log.read_text().splitlines() if self.egress_log.exists() else []

    def wait(self, limit_s: float = 120) -> None:
        """Nothing, once it answers."""
        until = time.monotonic() + limit_s
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            with contextlib.suppress(OSError), opener.open(self.url + "/", timeout=5) as answer:
                assert answer.status == 200
                return
            time.sleep(0.15)
        raise TimeoutError(self.log.read_text()[-3000:])

    def stop(self) -> None:
        """Nothing; ends the process and what it started."""
        for number, grace in ((signal.SIGINT, 8), (signal.SIGTERM, 4), (signal.SIGKILL, 4)):
            if self.process.poll() is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)  # its own session: only what we started
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace)


class Recorder:
    """What went wrong in the browser."""

    def __init__(self) -> None:
        self.console: list[str] = []
        self.failed: list[str] = []
        self.external: list[str] = []
        self.num_requests = 0

    def attach(self, context: BrowserContext) -> None:
        """Nothing; listens to every page of `context`."""

        def elsewhere(url: str) -> bool:
            parts = urlparse(url)
            return parts.scheme in ("http", "https") and parts.hostname not in LOOPBACK

        def refuse(route) -> None:
            self.external.append(route.request.url)
            route.abort()

        def count(request) -> None:
            self.num_requests += 1

        def failed(request) -> None:
            if "ERR_ABORTED" not in (request.failure or ""):  # a request that the page itself gave up
                self.failed.append(f"{request.failure} {request.url}")

        context.route(elsewhere, refuse)
        context.on("request", count)
        context.on("requestfailed", failed)
        context.on("response", lambda r: self.failed.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        context.on("console", lambda m: self.console.append(m.text) if m.type == "error" else None)
        context.on("weberror", lambda e: self.console.append(f"page error: {e.error}"))

    @property
    def problems(self) -> list[str]:
        """Everything that went wrong, in words."""
        kinds = {"external": self.external, "failed": self.failed, "console": self.console}
        return sorted({f"{kind}: {what}" for kind, found in kinds.items() for what in found})


@contextlib.contextmanager
def chromium(executable: str):
    """Makes contexts: viewport, phone and dark to a fresh context with its recorder."""
    profile = tempfile.mkdtemp(prefix="chromium_profile_")
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=executable, headless=True, args=FLAGS)

            def context(size=(1280, 900), *, phone=False, dark=False) -> tuple[BrowserContext, Recorder]:
                made = browser.new_context(
                    viewport={"width": size[0], "height": size[1]}, device_scale_factor=2 if phone else 1,
                    is_mobile=phone, has_touch=phone, color_scheme="dark" if dark else "light",
                    reduced_motion="reduce", locale="en-GB", accept_downloads=True,
                )  # fmt: skip
                made.set_default_timeout(60_000)
                recorder = Recorder()
                recorder.attach(made)
                return made, recorder

            yield context
            browser.close()
    finally:
        shutil.rmtree(profile, ignore_errors=True)


def until(check, what: str, limit_s: float = 45, every_s: float = 0.03):
    """The first true value of `check`, asked again and again; AssertionError says what did not come true."""
    end, last = time.monotonic() + limit_s, None
    while time.monotonic() < end:
        last = check()
        if last:
            return last
        time.sleep(every_s)
    raise AssertionError(f"not in {limit_s:.0f} s: {what}; last seen: {last!r}")


def address(page: Page) -> str:
    """The address in the bar; `page.url` goes stale while one polls."""
    return page.evaluate("location.href")


def violations(page: Page, axe_js: Path | None) -> list[str]:
    """What breaks WCAG 2.2 A or AA by axe-core's rules, one line each; nothing is found without axe-core."""
    if axe_js is None:
        return []
    if not page.evaluate("() => !!window.axe"):
        page.evaluate(axe_js.read_text() + "\n;void 0")
    return page.evaluate("""async () => {
      const found = await axe.run('body', {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']});
      return found.violations.map(v => `${v.id} x${v.nodes.length}: ${v.help} | ` + v.nodes.slice(0, 3).map(
        n => n.target.join(' ') + ' (' + (n.any[0]?.message || n.all[0]?.message || '').slice(0, 140) + ')').join(' | '));
    }""")
