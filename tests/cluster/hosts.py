"""Nodes that are real to Ray on one machine: the script netcluster.sh from Python, and what to do to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("netcluster.sh")
NODES = """
n1 --num-cpus=0 --labels="pool=head"
n2 --num-cpus=2 --num-gpus=1 --memory=4000000000 --resources='{"exclusive":1}' --labels="pool=gpu,ray.io/accelerator-type=A10G"
n3 --num-cpus=2 --num-gpus=2 --memory=6000000000 --resources='{"exclusive":1}' --labels="pool=gpu,ray.io/accelerator-type=A100"
n4 --num-cpus=2 --memory=2200000000 --resources='{"exclusive":1}' --labels="pool=cpu"
"""
"""Unlike nodes; three GPUs are only numbers."""
LIMITS = "n4=950000000"
"""The last has less memory than it says: too little for a transformer beside Ray's own processes."""
HEAD = "10.77.0.1"


def missing() -> str | None:
    """Why this machine cannot have such nodes, or None."""
    done = subprocess.run(["bash", str(SCRIPT), "check"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip() or "netcluster.sh check failed"


class Hosts:
    """A cluster of namespaces. Use as a context manager: everything ends with it."""

    def __init__(self, folder: Path, name: str = "mbt", nodes: str = NODES, *, memory_limits: bool = False) -> None:
        self.folder, self.name, self._nodes = folder, name, nodes
        self.private = folder / "private"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") and k != "PYTHONDONTWRITEBYTECODE"}
        self.environment = {
            **kept,
            "NC_NAME": name,
            "NC_DIR": f"/tmp/{name}",
            "NC_RAY": str(Path(sys.executable).parent / "ray"),
            "NC_PRIVATE": str(self.private),
            "NC_MEM_CGROUP": str(int(memory_limits)),
            "NC_MEM_LIMITS": LIMITS,
            "RAY_AUTH_MODE": "token",
            "RAY_worker_niceness": "0",  # as cluster/environment.sh has it
            "MOODBENCH_CACHE": str(folder / "cache"),
            "PYTHONPATH": str(SCRIPT.parents[2]),
        }

    def __enter__(self) -> Hosts:
        self.folder.mkdir(parents=True, exist_ok=True)
        spec = self.folder / "nodes"
        spec.write_text(self._nodes)
        try:
            self._script("up", str(spec), timeout=600)
        except BaseException:
            self._script("down", timeout=60)  # nobody else ends the nodes that did come up
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._script("down", timeout=60)

    @property
    def token(self) -> Path:
        """The file with the cluster's token."""
        return Path(f"/tmp/{self.name}/auth_token")

    def popen(self, node: str, *arguments: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """A started Python on `node`; what it prints goes to `log`."""
        return self.popen_command(node, sys.executable, *arguments, log=log, **environment)

    def popen_command(self, node: str, *words: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """A started command on `node`, found on the PATH there; what it prints goes to `log`."""
        command = ["bash", str(SCRIPT), "exec", node, "--", *words]
        with log.open("ab") as out:
            return subprocess.Popen(command, env=self.environment | environment, stdout=out, stderr=out)

    def run(
        self, node: str, *arguments: str, timeout: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """A finished Python on `node`."""
        command = ["bash", str(SCRIPT), "exec", node, "--", sys.executable, *arguments]
        return subprocess.run(
            command, env=self.environment | environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    def power_off(self, node: str) -> None:
        """Nothing; the whole node is gone at once."""
        self._script("kill-node", node)

    def kill_raylet(self, node: str) -> None:
        """Nothing; its raylet dies."""
        self._script("kill-node", node, "raylet")

    def kill_gcs(self) -> None:
        """Nothing; the head forgets everything."""
        self._script("kill-node", "n1", "gcs")

    def cut(self, node: str) -> None:
        """Nothing; its link goes down and its processes go on."""
        self._script("cut-node", node)

    def heal(self, node: str) -> None:
        """Nothing; its link is up again."""
        self._script("heal-node", node)

    def squeeze(self, node: str) -> tuple[Path, str]:
        """The file with the memory limit of `node`, now so low that its next allocation ends its largest worker, and what it was."""
        cgroup = Path(Path(f"/tmp/{self.name}/{node}.cg").read_text().strip())
        used = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        limit = next(path for name in ("memory.limit_in_bytes", "memory.max") if (path := cgroup / name).exists())
        before, size = limit.read_text(), int(used.get("total_rss") or used["anon"])
        while True:  # a limit below what cannot be given up is refused
            size += 16 * 2**20
            with suppress(OSError):
                limit.write_text(str(size))
                break
        return limit, before

    def restore(self, node: str) -> None:
        """Nothing; the node is there and works, as a new one to Ray, its old processes gone."""
        for process in self.processes(node, "raylet"):
            os.kill(process, signal.SIGKILL)
        time.sleep(0.5)
        self._script("start-node", node, timeout=300)
        self._script("heal-node", node)

    def restart_head(self) -> None:
        """Nothing; the whole cluster starts anew."""
        self._script("down", timeout=60)
        self.__enter__()

    def alive(self) -> set[str]:
        """The addresses of nodes that Ray takes for living."""
        done = subprocess.run(
            ["bash", str(SCRIPT), "status", "--json"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return {row["ip"] for row in json.loads(done.stdout or "[]") if row["alive"]}

    def wait_for_nodes(self, count: int, seconds: float = 60) -> None:
        """Nothing; returns when so many nodes live."""
        wait_for(lambda: len(self.alive()) >= count, seconds, f"{count} living nodes")

    def processes(self, node: str, word: str) -> list[int]:
        """Processes of `node` whose command line holds `word`, as this machine numbers them."""
        return [process for process, line in self._running(node) if word in line]

    def command_lines(self, node: str) -> list[str]:
        """The command line of each process of `node`."""
        return [line for _, line in self._running(node)]

    def _running(self, node: str) -> list[tuple[int, str]]:
        try:
            init = (Path(f"/tmp/{self.name}") / f"{node}.pid").read_text().split()[0]
            namespace = Path(f"/proc/{init}/ns/pid").readlink()
        except (OSError, IndexError):
            return []
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "ns" / "pid").readlink() == namespace:
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                    if state != "Z":
                        line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                        found.append((int(entry.name), line.decode(errors="replace").strip()))
            except OSError:
                continue  # it has just ended
        return found

    def _script(self, *arguments: str, timeout: float = 30) -> str:
        done = subprocess.run(
            ["bash", str(SCRIPT), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"netcluster.sh {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout


def wait_for[T](look: Callable[[], T], seconds: float, what: str) -> T:
    """What `look` finds as soon as it is true; TimeoutError names `what`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise TimeoutError(f"no {what} within {seconds:.0f} s")


def events_of(store: Path) -> list[dict[str, Any]]:
    """Every event of every run in `store`, in order."""
    lines: list[dict[str, Any]] = []
    for path in sorted((store / "events").glob("*.jsonl")):
        lines += [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return lines


def first(events: Sequence[dict[str, Any]], **wanted: Any) -> dict[str, Any] | None:
    """The first event with these values."""
    return next((e for e in events if all(e.get(k) == v for k, v in wanted.items())), None)
