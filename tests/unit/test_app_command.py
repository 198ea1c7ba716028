import os
import subprocess
import sys

import pytest

from moodbench.cli.app import PASSWORD, audience, is_loopback, login_of
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


def test_a_page_that_others_can_open_says_so():
    assert audience("127.0.0.1", []) == audience("localhost", []) == ""
    assert "it listens on 0.0.0.0. Only a proxy" in audience("0.0.0.0", [])
    assert "it listens on 0.0.0.0 and answers to a.example, b.example." in audience(
        "0.0.0.0", ["a.example", "b.example"]
    )
    assert "a proxy may pass requests on to it and answers to a.example" in audience("::1", ["a.example"])


# A library's `catch_warnings` is undone by one of another thread that ends meanwhile: here, always and at once.
LAUNCHED = """
import warnings
from moodbench.app import quiet_environment
if {hushed}: quiet_environment()
warnings.simplefilter = lambda *wanted, **more: None
import gradio
with gradio.Blocks() as page:
    gradio.Textbox()
page.launch(prevent_thread_lock=True, quiet=True)
page.close()
warnings.warn("something else", RuntimeWarning)
"""


@pytest.mark.parametrize("hushed", [True, False])
def test_what_libraries_hush_for_a_moment_is_not_told_to_whoever_opens_a_page(hushed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHED.format(hushed=hushed)],
        env={**os.environ, "PATH": str(tmp_path), "no_proxy": "127.0.0.1", "GRADIO_ANALYTICS_ENABLED": "False"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0 and "something else" in done.stderr, done.stderr
    assert ("ffmpeg" in done.stderr) is not hushed, "told where pydub is imported"
    assert ("UnsupportedFieldAttributeWarning" in done.stderr) is not hushed, "told where FastAPI reads its routes"
    assert (done.stderr.count("Warning:") == 1) is hushed, done.stderr
