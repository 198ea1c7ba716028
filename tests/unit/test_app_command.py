import os
import subprocess
import sys

import pytest

from moodbench.cli import main
from moodbench.cli.app import PASSWORD, is_loopback, login_of
from moodbench.errors import UsageError


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.3.2.1"])
def test_this_machine_alone_needs_no_password(host):
    assert is_loopback(host) and login_of(host, None, None) is None
    assert login_of(host, "reader", "a long one") == ("reader", "a long one"), "but may have one"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_elsewhere_needs_a_name_and_a_password(host):
    assert login_of(host, "reader", "a long one") == ("reader", "a long one")
    with pytest.raises(UsageError, match="others could reach the page; give --user NAME"):
        login_of(host, None, "a long one")


@pytest.mark.parametrize(("password", "seen"), [(None, "is not set"), ("short", "has 5 characters")])
def test_a_password_must_be_there_and_long_enough(password, seen):
    with pytest.raises(UsageError, match=f"{PASSWORD} {seen}; set it to a password of at least 8 characters"):
        login_of("0.0.0.0", "reader", password)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--host", "0.0.0.0"], "others could reach the page"),
        (["--host", "0.0.0.0", "--user", "me"], f"{PASSWORD} is not set"),
        (["--port", "70000"], "--port 70000: allowed is 1 to 65535"),
        (["--store", __file__], "is a file"),
        (["--address", "http://head:8265"], "--address 'http://head:8265': expected HOST:PORT of Ray's head"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(flags, message, monkeypatch, capsys):
    monkeypatch.delenv(PASSWORD, raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["app", *flags])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


LOADED = """
import warnings
from moodbench.visualization.page import quiet_environment
if {hushed}: quiet_environment()
with warnings.catch_warnings():  # what another thread may do while Gradio looks away from warnings
    warnings.warn("something else", RuntimeWarning)
    import pydub.utils
    pydub.utils.get_encoder_name()
"""


@pytest.mark.parametrize("hushed", [True, False])
def test_a_missing_ffmpeg_which_no_page_needs_is_not_told_to_whoever_opens_one(hushed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(hushed=hushed)],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0 and "something else" in done.stderr
    assert ("ffmpeg" in done.stderr) is not hushed
