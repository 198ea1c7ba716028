"""How one asks for a cluster: addresses, jobs, tokens, and what is refused."""

import os

import pytest
from refused import fail

from moodbench.errors import PrerequisiteError, UsageError
from moodbench.runtime.ray_internals import set_up_token
from moodbench.runtime.ray_jobs import LogFollower, files_to_ship


def refused(capsys, *arguments):
    return fail(list(map(str, arguments)), capsys)


def test_files_named_by_a_relative_path_go_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.yaml").write_text("models: [vader]")
    (tmp_path / "other.txt").write_text("stays")
    target = tmp_path / "ship"
    target.mkdir()
    assert files_to_ship(["run", "specs/a.yaml", "--store", "/shared"], target) == target
    assert [p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()] == ["specs/a.yaml"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert files_to_ship(["run", "quickstart"], empty) is None
    monkeypatch.chdir(tmp_path / "specs")
    with pytest.raises(UsageError, match="lies outside this folder"):
        files_to_ship(["run", "../other.txt"], empty)


class Job:
    """A job server that tells `log` from the beginning each time, as far as `cuts` let it, and then breaks off."""

    def __init__(self, log, cuts, status="SUCCEEDED", code=None, back=True):
        self.log, self.cuts, self.back = log, list(cuts), back
        self.status, self.message, self.driver_exit_code = Status(status), "as it says", code

    async def tail_job_logs(self, job_id):
        if not self.back and not self.cuts:
            raise RuntimeError("Connection refused")
        until = self.cuts.pop(0) if self.cuts else len(self.log)
        for start in range(0, until, 4):
            yield self.log[start : min(start + 4, until)]
        if until < len(self.log):
            raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_info(self, job_id):
        return self

    def get_job_logs(self, job_id):
        return self.log


class Status(str):
    def is_terminal(self):
        return self in ("SUCCEEDED", "FAILED", "STOPPED")


def followed(job):
    said, now = [], [0.0]

    def sleep(seconds):
        now[0] += seconds

    status = LogFollower(job, "job-1", said.append, clock=lambda: now[0], sleep=sleep).exit_status()
    return status, "".join(said)


def test_a_log_goes_on_where_its_connection_broke_and_the_exit_status_is_passed_through():
    lost = "[connection lost: WebSocket connection closed unexpectedly; trying again]\n"
    assert followed(Job("one two three\n", [])) == (0, "one two three\n")
    assert followed(Job("one two three\n", [6])) == (0, f"one tw{lost}o three\n")
    status, said = followed(Job("one two\n", [], "FAILED", 2))
    assert (status, said) == (2, "one two\n[job-1 FAILED: as it says]\n")
    assert followed(Job("", [], "STOPPED"))[0] == 1


def test_a_connection_that_came_back_may_break_again_after_any_time():
    now, said = [0.0], []

    class Slow(Job):
        async def tail_job_logs(self, job_id):
            async for text in super().tail_job_logs(job_id):
                now[0] += 600
                yield text

    job = Slow("one two three\n", [4, 8])
    following = LogFollower(job, "job-1", said.append, clock=lambda: now[0], sleep=lambda seconds: None)
    lost = "[connection lost: WebSocket connection closed unexpectedly; trying again]\n"
    assert following.exit_status() == 0 and "".join(said) == f"one {lost}two {lost}three\n"


def test_a_connection_that_never_comes_back_is_given_up():
    with pytest.raises(ConnectionError, match="Connection refused"):
        followed(Job("one two three\n", [6], back=False))


def test_a_job_that_is_not_taken_or_is_lost_is_one_sentence(monkeypatch):
    from moodbench.runtime import ray_jobs

    class Refusing:
        def submit_job(self, **_):
            raise RuntimeError("Request failed with status code 500: No available agent")

    monkeypatch.setattr(ray_jobs, "_client", lambda address: Refusing())
    with pytest.raises(PrerequisiteError, match="the job was not taken: Request failed with status code 500"):
        ray_jobs.submit("http://h:8265", ["models"], say=lambda text: None)
    lost = Job("one\n", [], back=False)
    lost.submit_job = lambda **_: "job-1"
    monkeypatch.setattr(ray_jobs, "_client", lambda address: lost)
    monkeypatch.setattr(ray_jobs, "RECONNECT_S", -1.0)
    with pytest.raises(
        PrerequisiteError, match=r"how the job ends is not known here\. job-1 goes on; follow it with: ray job logs"
    ):
        ray_jobs.submit("http://h:8265", ["models"], say=lambda text: None)


@pytest.fixture
def token(monkeypatch, tmp_path):
    """Sets the variables of a token, undone after the test; a home without one."""
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").write_text("secret")
    (tmp_path / "empty").write_text("\n")

    def give(**given):
        for name, value in given.items():
            monkeypatch.setenv(name, value.replace("TMP", str(tmp_path)))
        set_up_token()

    return give


@pytest.mark.parametrize(
    ("given", "mode"),
    [({"RAY_AUTH_TOKEN": "x"}, "token"), ({"RAY_AUTH_TOKEN_PATH": "TMP/token"}, "token"), ({}, "disabled"),
     ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN_PATH": "/nope"}, "disabled")],
)  # fmt: skip
def test_the_authentication_mode_is_never_left_to_a_guess(token, given, mode):
    token(**given)
    assert os.environ["RAY_AUTH_MODE"] == mode


@pytest.mark.parametrize(
    ("given", "said"),
    [({"RAY_AUTH_TOKEN_PATH": "/nope/token"}, "RAY_AUTH_TOKEN_PATH=/nope/token: No such file or directory"),
     ({"RAY_AUTH_TOKEN_PATH": "TMP/empty"}, "empty: the file is empty"),
     ({"RAY_AUTH_TOKEN_PATH": "TMP"}, "Is a directory"),
     ({"RAY_AUTH_MODE": "token"}, "RAY_AUTH_MODE=token, and .*/.ray/auth_token: No such file")],
)  # fmt: skip
def test_a_token_that_is_not_there_is_said_before_anything_is_asked_of_the_cluster(token, given, said):
    with pytest.raises(PrerequisiteError, match=said) as refusal:
        token(**given)
    assert "copy its file here and name it in RAY_AUTH_TOKEN_PATH" in str(refusal.value)


def test_python_may_name_a_cluster_too(tmp_path):
    import moodbench

    with pytest.raises(PrerequisiteError, match=r"address 127\.0\.0\.1:1: nothing answers there"):
        moodbench.run("vader", "icwsm-tweets", store=tmp_path, address="127.0.0.1:1")
