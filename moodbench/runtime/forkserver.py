"""Fork server: a process that has imported a worker's libraries and forks a child for each command (Linux only).

A child starts in milliseconds, where a new process spends seconds on imports. It is otherwise like one: a session,
working folder, environment, standard streams, exit code and finalisation of its own. It is killed with its client, with
the server, and the server with the process that started it.

Libraries read variables such as OMP_NUM_THREADS when they are imported, so the server refuses a command with another
environment than its own, and the client starts a new process.

The resident memory of a child includes the pages that it inherits, but those of library files only once it touches
them, unlike in a new process, which maps them during its imports. A recorded peak counts them, see FILE_BYTES.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from moodbench.hardware import die_with_parent, hardware

ADDRESS = "MOODBENCH_FORK_SERVER"
"""Variable with the address of a running fork server, for this process and its children."""
FILE_BYTES = "_MOODBENCH_FILE_BYTES"
"""Variable of a child with the resident bytes of mapped files in its server, at least as many as count in its peak."""
OTHER_VARIABLES = ("RAY_", "MOODBENCH_", "PYTEST_", "PYTHONBREAKPOINT", "SPT_NOENV")
"""Prefixes of variables that no library reads when it is imported, so that they may differ; Ray sets the last two."""
FORKS_WELL = "jemalloc_bg_thd"
"""Thread that Arrow's allocator starts; it stops before a fork and starts again after it."""
START_S = 30.0
"""Time limit for the answer of a server, which may still be importing."""
_OOM_SCORE = Path("/proc/self/oom_score_adj")


@contextmanager
def fork_server(module: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a fork server inside the context, and set ADDRESS, if that is possible and there is none yet.

    It calls `preload()` of `module` once, and `main()` in each child. There is none on a machine with a GPU: a library
    may open the driver when it is imported, and a child could not use it.
    """
    if sys.platform != "linux" or ADDRESS in os.environ or hardware().gpus:
        yield
        return
    # An address has at most 107 bytes, and TMPDIR may be longer.
    with tempfile.TemporaryDirectory(prefix="moodbench-fork-", dir="/tmp") as folder:
        address = f"{folder}/socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(address)
            listener.listen(128)
            server = subprocess.Popen(
                [sys.executable, "-m", __name__, module, str(listener.fileno())],
                stdin=subprocess.PIPE,  # closed when this process ends
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=dict(environment),
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        os.environ[ADDRESS] = address
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            with server:
                server.kill()


class ForkedProcess:
    """A child of the fork server at `address`.

    Raises: OSError if there is no server, or it refuses this environment.
    """

    def __init__(self, address: str, argv: Sequence[str], environment: Mapping[str, str], stderr: int) -> None:
        child_in, stdin = os.pipe()
        stdout, child_out = os.pipe()
        self.stdin = open(stdin, "w", encoding="utf-8")  # noqa: PTH123,SIM115
        self.stdout = open(stdout, encoding="utf-8")  # noqa: PTH123,SIM115
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {
            "argv": argv,
            "environment": dict(environment),
            "folder": str(Path.cwd()),
            "oom": _OOM_SCORE.read_text(),
        }
        try:
            self._server.settimeout(START_S)
            self._server.connect(address)
            socket.send_fds(self._server, [json.dumps(request).encode()], [child_in, child_out, stderr])
            if not self._server.recv(100):
                raise ConnectionRefusedError(address)
        except OSError:
            for each in (self._server, self.stdin, self.stdout):
                each.close()
            raise
        finally:
            os.close(child_in)
            os.close(child_out)

    def kill(self) -> None:
        """Kill the process and its children, unless it has ended."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_WR)

    def wait(self) -> tuple[int, int]:
        """Wait for the end; return the exit code, the negative number of a signal if killed, and the peak in bytes."""
        answer = b""
        self._server.settimeout(None)
        with self._server, suppress(OSError):
            answer = self._server.recv(100)
        if not answer:  # the server was killed, and its children with it
            return -signal.SIGKILL, 0
        return_code, peak_bytes = json.loads(answer)
        return return_code, peak_bytes


class _Child(NamedTuple):
    pid: int
    pidfd: int
    client: socket.socket


def serve(listener: socket.socket, environment: Mapping[str, str]) -> None:
    """Fork a child for each request with this environment; return in the child only. Exit if standard input closes."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    while True:
        key = selector.select()[0][0]  # one at a time, because it may make the others obsolete
        child: _Child | None = key.data
        if key.fileobj == 0:
            sys.exit()
        if child is None:
            if _accept(listener, selector, environment):
                return
        elif key.fd == child.pidfd:
            _reap(child, selector)
        else:  # the client has gone, or wants the child killed
            with suppress(ProcessLookupError):  # its group does not exist yet
                os.killpg(child.pid, signal.SIGKILL)
            os.kill(child.pid, signal.SIGKILL)
            selector.unregister(child.client)


def _accept(listener: socket.socket, selector: selectors.BaseSelector, environment: Mapping[str, str]) -> bool:
    """Fork a child for the next request, and return whether this is the child."""
    client, _ = listener.accept()
    client.settimeout(1.0)
    fds: list[int] = []
    try:
        message, fds, _, _ = socket.recv_fds(client, 2**20, 3)
        request = json.loads(message)
        if _of_libraries(request["environment"]) != _of_libraries(environment):
            raise ConnectionRefusedError
        server, pid = os.getpid(), os.fork()
    except (OSError, ValueError):
        client.close()
    else:
        if pid == 0:
            client.close()
            _become(request, fds, selector, server)
            return True
        child = _Child(pid, os.pidfd_open(pid), client)
        selector.register(child.pidfd, selectors.EVENT_READ, child)
        selector.register(client, selectors.EVENT_READ, child)
        with suppress(OSError):  # the client has given up
            client.send(b"forked")
    for fd in fds:
        os.close(fd)
    return False


def _of_libraries(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(OTHER_VARIABLES)}


def _become(request: Mapping[str, Any], fds: Sequence[int], selector: selectors.BaseSelector, server: int) -> None:
    """Make this child of the fork server the process that was requested."""
    os.setsid()
    die_with_parent()
    if os.getppid() != server:  # it has ended before
        os._exit(1)
    for child in {key.data for key in selector.get_map().values()} - {None}:
        child.client.close()
        os.close(child.pidfd)
    selector.close()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    for name in os.environ.keys() - _of_libraries(os.environ).keys():
        del os.environ[name]
    os.environ.update(request["environment"])  # beside what libraries have set
    os.chdir(request["folder"])
    _OOM_SCORE.write_text(request["oom"])
    sys.argv = list(request["argv"])


def _reap(child: _Child, selector: selectors.BaseSelector) -> None:
    """Send exit code and peak memory of an ended child to its client."""
    _, status, usage = os.wait4(child.pid, 0)
    selector.unregister(child.pidfd)
    os.close(child.pidfd)
    with suppress(KeyError):  # the client has gone before
        selector.unregister(child.client)
    with suppress(OSError), child.client:
        child.client.send(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024]).encode())


def status_bytes(name: str) -> int:
    """Return a size from this process's status on Linux, such as VmHWM or RssFile."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Serve, and in a child run the module."""
    os.close(os.pidfd_open(os.getpid()))  # fails before Linux 5.3
    environment = dict(os.environ)
    module = import_module(sys.argv[1])
    module.preload()
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    if len(threads) > 1 + threads.count(FORKS_WELL):
        sys.exit(f"{sys.argv[1]} starts threads when it is imported, and none may run where a process forks: {threads}")
    os.environ[FILE_BYTES] = str(status_bytes("RssFile"))
    with socket.socket(fileno=int(sys.argv[2])) as listener:
        serve(listener, environment)
    module.main()


if __name__ == "__main__":
    main()
