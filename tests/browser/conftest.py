"""A real Chromium, axe-core, and one page that all tests of the browser look at, from an empty store to a full one."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from chromium import Server, chromium
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))  # generated_store
AXE = "axe-core@4.14.1"
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
warnings_of_axe: list[str] = []
SHORT = """
evaluation:
  protocols:
    short: {processes: 1, requests: 50, window_requests: 25, warmup_s: 0, batch_sizes: [1, 8], batch_seconds: 0.1,
            batch_repeats: 1, max_attempts: 1, backoff_s: 0, quick: true}
presets:
  tweets:
    description: three entries on few tweets
    models: [tfidf-logreg, vader, MiniLM-L3]
    datasets: [icwsm-tweets]
    max_train_examples: 96
    max_validation_examples: 48
    protocol: short
    train: {epochs: 1, evaluations_per_epoch: 1}
  products:
    description: three entries on few product reviews
    models: [tfidf-logreg, vader, MiniLM-L3]
    datasets: [icwsm-product]
    max_train_examples: 96
    max_validation_examples: 48
    protocol: short
    train: {epochs: 1, evaluations_per_epoch: 1}
  both:
    description: both of these
    models: [tfidf-logreg, vader, MiniLM-L3]
    datasets: [icwsm-tweets, icwsm-product]
    max_train_examples: 96
    max_validation_examples: 48
    protocol: short
    train: {epochs: 1, evaluations_per_epoch: 1}
  many:
    description: enough to be cancelled
    models: [tfidf-logreg, vader]
    datasets: [icwsm-movie]
    seeds: 5
    max_train_examples: 96
    max_validation_examples: 48
    protocol: short
"""


@pytest.fixture(scope="session")
def executable() -> str:
    """Where Chromium is."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on this machine; `apt-get install chromium` brings one")
    return found


@pytest.fixture(scope="session")
def axe_js(tmp_path_factory) -> Path | None:
    """The rules of axe-core, from MOODBENCH_AXE_JS or from npm (MPL-2.0, fetched for the tests alone).

    None where there are none: what needs no rules is tested all the same, and one test says why the rules are missing.
    """
    given = os.environ.get("MOODBENCH_AXE_JS")
    path = Path(given) if given else _from_npm(tmp_path_factory.mktemp("axe"))
    if isinstance(path, str):
        warnings_of_axe.append(path)
        return None
    assert hashlib.sha256(path.read_bytes()).hexdigest() == AXE_SHA256, f"{path} is not {AXE}"
    return path


def _from_npm(folder: Path) -> Path | str:
    """The file of rules, or why there is none."""
    if shutil.which("npm") is None:
        return "no axe-core: npm is not on this machine, and MOODBENCH_AXE_JS names no file"
    done = subprocess.run(["npm", "pack", AXE], cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode:
        return f"no axe-core: npm pack {AXE} failed ({done.stderr.strip().splitlines()[-1:]})"
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extract("package/axe.min.js", folder, filter="data")
    return folder / "package" / "axe.min.js"


@pytest.fixture(scope="session")
def why_no_axe(axe_js) -> str:
    """Why there are no rules; empty where there are."""
    return "; ".join(warnings_of_axe)


@pytest.fixture(scope="session")
def config(tmp_path_factory) -> Path:
    """An overlay with presets and a protocol that take seconds."""
    path = tmp_path_factory.mktemp("config") / "short.yaml"
    path.write_text(SHORT)
    return path


@pytest.fixture(scope="session")
def shots(tmp_path_factory) -> Path:
    """Where screenshots go: MOODBENCH_SHOTS, or a folder of pytest's."""
    folder = Path(os.environ.get("MOODBENCH_SHOTS") or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser(executable):
    """Makes contexts of one Chromium."""
    with chromium(executable) as context:
        yield context


@pytest.fixture(scope="module")
def site(browser, axe_js, shots, config, tmp_path_factory):
    """The page of a store that does not exist yet, and a browser that is open on it."""
    with opened(browser, axe_js, shots, config, tmp_path_factory.mktemp("site") / "results") as page:
        yield page


@pytest.fixture(scope="session")
def filled_store(config, tmp_path_factory) -> Path:
    """A store with three entries on two datasets, made once for all processes of the tests; nobody writes to it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    store, made = shared / "filled" / "results", shared / "filled" / "made"
    command = [sys.executable, "-m", "moodbench", "run", "both", "--config", str(config), "--store", str(store)]
    with FileLock(shared / "filled.lock"):
        if not made.exists():
            done = subprocess.run([*command, "--executor", "inline"], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
            made.touch()
    return store


@pytest.fixture(scope="module")
def filled(browser, axe_js, shots, config, filled_store):
    """The page of a store with results, and a browser that is open on it."""
    with opened(browser, axe_js, shots, config, filled_store) as page:
        yield page


@contextmanager
def opened(browser, axe_js, shots, config, store):
    """The page of a store while a server shows it; at the end nothing went wrong and nothing went out."""
    command = ["-m", "moodbench", "app", "--store", str(store), "--allow-runs", "--config", str(config)]
    server = Server(command, store.parent / f"server-{uuid4().hex[:8]}")
    try:
        server.wait()
        context, recorder = browser()
        yield Site(server, store, context.new_page(), recorder, axe_js, shots, config)
        assert recorder.problems == []
        assert server.egress == []
        log = server.log.read_text()
        assert "Traceback" not in log and "Warning" not in log, log[-2000:]
        context.close()
    finally:
        server.stop()


class Site:
    """The page under test with all that belongs to it."""

    def __init__(self, server, store, page, recorder, axe_js, shots, config) -> None:
        self.server, self.store, self.page, self.recorder = server, store, page, recorder
        self.axe_js, self.shots, self.config = axe_js, shots, config

    def open(self, query: str = "", page=None):
        """The page at this query, once the open tab is filled."""
        page = page or self.page
        page.goto(f"{self.server.url}/?{query}", wait_until="commit")
        page.wait_for_function("() => window.gradio_config && !document.body.innerText.includes('Reading the results')"
                               " && document.querySelector('#mb-source p')")  # fmt: skip
        page.wait_for_timeout(250)
        return page
