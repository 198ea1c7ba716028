"""Failures of the hub, for models and datasets alike: each is named, retried if that can help, and no obstacle to the cache."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import hub_data
import pytest
from hub_server import point_at
from huggingface_hub.utils import close_session

from moodbench.config import load_catalogue
from moodbench.config.schema import ModelSource
from moodbench.data.loader import load_source
from moodbench.errors import PrerequisiteError
from moodbench.models.locate import locate

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*socket.*"),
]
CATALOGUE = load_catalogue()
CONFIG = {"model": "config.json", "dataset": "README.md"}
LARGE = {"model": "model.safetensors", "dataset": "default/train-00000-of-00001.parquet"}


class Resource:
    """A model or a dataset on the hub, and what its reader says."""

    def __init__(self, kind, hub, checkpoint, folder, monkeypatch):
        self.kind, self.hub, self._folder, self._monkeypatch = kind, hub, folder, monkeypatch
        if kind == "model":
            self.id, files = "owner/model", checkpoint
        else:
            self.id, make = hub_data.REPOSITORIES["sst2"]
            files = make()
        self.repository = hub.add(kind, self.id, files)
        self.new_process()

    def new_process(self, offline=False):
        """Forget what this process knows but not the caches of the hub's libraries."""
        self._count = getattr(self, "_count", 0) + 1
        close_session()
        point_at(self.hub, self._folder, self._monkeypatch, offline=offline)
        self._monkeypatch.setenv("MOODBENCH_CACHE", str(self._folder / f"moodbench{self._count}"))

    def read(self):
        if self.kind == "model":
            return locate("m", ModelSource(hub=self.id)).weights_sha256
        return load_source("sst2", CATALOGUE.dataset("sst2")).revision

    def refusal(self):
        with pytest.raises(PrerequisiteError) as raised:
            self.read()
        return str(raised.value)


@pytest.fixture(params=["model", "dataset"])
def resource(request, hub, checkpoint, tmp_path, monkeypatch):
    return Resource(request.param, hub, checkpoint, tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The seconds that were waited between requests, none of which pass."""
    found = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


BAD_TOKEN = {"message": "Invalid credentials in Authorization header"}
REFUSALS = [
    (401, {"code": "RepoNotFound"}, "does not exist, or is private and this machine has no access (401)"),
    (404, {"code": "RepoNotFound"}, "does not exist, or is private and this machine has no access (404)"),
    (401, {"code": "GatedRepo"}, "is gated (401): accept its terms at"),
    (403, {"code": "GatedRepo"}, "is gated (403): accept its terms at"),
    (401, BAD_TOKEN, "does not accept the token of this machine (401)"),
    (403, {"message": "no read right"}, "access is forbidden (403"),
    (403, {"message": "Access to this resource is disabled."}, "was disabled by the hub (403)"),
    (404, {"code": "RevisionNotFound"}, "has no such revision (404)"),
    (418, {}, "answers with status 418"),
]


@pytest.mark.parametrize(("status", "answer", "message"), REFUSALS)
def test_each_refusal_says_what_it_is_at_once(resource, waits, status, answer, message):
    resource.hub.fail(status, **answer)
    assert f"hub repository {resource.id}" in (told := resource.refusal()) and message in told
    assert waits == []


FAULTS = [
    (429, {}, "refuses more requests for now (429, too many); run the same command again in a few minutes"),
    (429, {"Retry_After": "3000"}, "run the same command again in 3000 seconds"),
    (500, {}, "the hub has a fault (500)"),
    (503, {}, "the hub has a fault (503)"),
]


@pytest.mark.parametrize(("status", "headers", "message"), FAULTS)
def test_a_fault_that_stays_is_named_after_retries_with_back_off(resource, waits, status, headers, message):
    resource.hub.fail(status, **headers)
    assert message in resource.refusal()
    assert waits == [] if headers else waits[:3] == [1, 2, 4]


@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_that_the_hub_asks_for_is_kept(resource, waits, status):
    resource.hub.fail(status, times=1, Retry_After="17")
    assert resource.read()
    assert waits == [17]


def test_the_wait_may_be_a_date_or_a_rate_limit(resource, waits):
    resource.hub.fail(503, times=1, Retry_After=format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True))
    resource.hub.fail(429, times=1, ratelimit='"api";r=0;t=23')
    assert resource.read()
    assert waits[0] == pytest.approx(40, abs=5) and waits[1] == 23


def test_no_network_and_offline_mode_say_so_at_once(resource, waits):
    resource.hub.__exit__()
    told = resource.refusal()
    assert (
        "is not in the cache, and http" in told and "cannot be reached" in told and "moodbench catalogue fetch" in told
    )
    resource.new_process(offline=True)
    assert "is not in the cache, and the network is off (HF_HUB_OFFLINE)" in resource.refusal()
    assert waits == []


@pytest.mark.parametrize(
    ("status", "answer"), [(s, a) for s, a, _ in (*REFUSALS, *FAULTS) if a.get("code") != "RevisionNotFound"]
)
def test_what_is_cached_works_whatever_the_hub_answers(resource, waits, status, answer):
    before = resource.read()
    resource.new_process()
    resource.hub.fail(status, **answer)
    assert resource.read() == before


def test_what_is_cached_works_without_a_hub(resource):
    before = resource.read()
    resource.hub.__exit__()
    resource.new_process()
    assert resource.read() == before


@pytest.mark.parametrize("file", [CONFIG, LARGE])
def test_a_wrong_download_is_removed_and_fetched_again(resource, file):
    path = file[resource.kind]
    right = resource.repository.files[path]
    resource.hub.wrong_once[path] = right[:-1] + bytes([right[-1] ^ 1])
    fetched = resource.read()
    resource.new_process()
    assert resource.read() == fetched
    assert sum(asked.endswith(f"/{path}") and how == "GET" for how, asked in resource.hub.requests) == 2


@pytest.mark.parametrize("file", [CONFIG, LARGE])
def test_a_file_that_is_wrong_again_is_refused_and_not_kept(resource, file):
    path = file[resource.kind]
    right = resource.repository.files[path]
    resource.hub.wrong[path] = right[:-1] + bytes([right[-1] ^ 1])
    told = resource.refusal()
    assert path in told and "differs from the digest that the hub states, also when downloaded again" in told
    resource.hub.wrong.clear()
    resource.new_process()
    assert resource.read()


@pytest.mark.parametrize("file", [{**CONFIG, "dataset": LARGE["dataset"]}, LARGE])
def test_a_single_file_that_the_hub_does_not_find_is_named(resource, waits, file):
    path = file[resource.kind]
    resource.hub.fail(404, part=f"/{path}", code="EntryNotFound")
    told = resource.refusal()
    assert f"hub repository {resource.id}" in told and path in told and "404" in told
    assert waits == []
    resource.hub.failures.clear()
    resource.new_process()
    assert resource.read()


@pytest.mark.parametrize("file", [CONFIG, LARGE])
def test_a_download_that_is_cut_short_is_resumed(resource, waits, file):
    path = file[resource.kind]
    resource.hub.cut[path] = len(resource.repository.files[path]) // 2
    fetched = resource.read()
    resource.new_process()
    assert resource.read() == fetched


@pytest.mark.parametrize("file", [CONFIG, LARGE])
def test_a_download_that_is_cut_short_each_time_says_so(resource, waits, file):
    path = file[resource.kind]

    class Always(dict):
        """Every answer with the file ends after its first bytes."""

        def pop(self, key, default=None):
            return 4 if key == path else default

    resource.hub.cut = Always()
    told = resource.refusal()
    assert f"hub repository {resource.id}" in told
    assert "the download was interrupted" in told and "rerun the command to resume" in told
    resource.hub.cut = {}
    resource.new_process()
    assert resource.read()


def test_a_file_that_a_disk_damaged_is_replaced_or_named_offline(resource, tmp_path):
    before = resource.read()
    (blob,) = {p.resolve() for p in (tmp_path / "hub").rglob(CONFIG[resource.kind])}
    right = blob.read_bytes()
    blob.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    resource.new_process(offline=True)
    told = resource.refusal()
    assert (
        CONFIG[resource.kind] in told
        and "differs from the digest that the hub stated; run `moodbench catalogue fetch" in told
    )
    resource.new_process()
    assert resource.read() == before and blob.read_bytes() == right
