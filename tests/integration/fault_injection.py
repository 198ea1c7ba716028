"""What is done to a run of the fault test: the run as a process, signals to it, a disk that fills, files that are damaged.

Only processes that the test started are signalled, by their pid.
"""

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import psutil

from moodbench.store import Store
from moodbench.store.verify import set_aside, verify

KINDS = ("fits", "evaluations", "measurements")
FAULTS = {
    # name: (executor, weight)
    "kill -9 of the driver": ("inline", 3),
    "SIGTERM of the driver": ("inline", 3),
    "Ctrl-C of the driver": ("inline", 3),
    "full disk": ("inline", 3),
    "torn, damaged and foreign files": ("inline", 3),
    "kill -9 of the driver over Ray": ("ray", 1),
    "SIGTERM of the driver over Ray": ("ray", 1),
    "Ctrl-C of the driver over Ray": ("ray", 1),
    "kill -9 of a worker": ("ray", 2),
    "SIGTERM of a worker": ("ray", 1),
    "Ctrl-C of a worker": ("ray", 1),
    "kill -9 of a Ray process": ("ray", 2),
    "SIGTERM of a Ray process": ("ray", 1),
    "Ctrl-C of a Ray process": ("ray", 1),
}
SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
CODES = {"SIGTERM": {0, 143, -signal.SIGTERM}, "Ctrl-C": {0, 130, -signal.SIGINT}}
"""How a driver ends by a signal. Python itself ends by it until it has come to the command's first line."""
DISK_BYTES = 2**30
MARK = "MOODBENCH_TEST_RUN"
"""The variable in the environment by which what a run has started is found."""
SURVIVAL_S = 60
"""How long what a run has started may outlive its driver."""


class Run:
    """The command under test in `folder`, as a process of its own."""

    def __init__(self, folder: Path, executor: str = "inline", largest_file: int | None = None) -> None:
        preset = (folder / "preset").read_text()
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self._mark = uuid4().hex
        environment |= {"MOODBENCH_CHECKPOINT_S": "0.2", "OMP_NUM_THREADS": "1", MARK: self._mark}
        if largest_file is not None:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"  # Python 3.12 keeps byte code that a full disk cut short

        def limit() -> None:
            # Every file stops growing there, as on a full disk; Python gets an OSError from the very write.
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        with stderr_of(folder).open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moodbench", "run", preset, "--config", "overlay.yaml", "--executor", executor],
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                preexec_fn=limit,
                process_group=0,
            )
        self._seen: dict[int, psutil.Process] = {}

    def ended_within(self, seconds: float) -> bool:
        """Whether the command ended by itself; its descendants are noted meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                return True
            self.descendants()
            time.sleep(0.1)
        return self.process.poll() is not None

    def descendants(self) -> list[psutil.Process]:
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._seen |= {p.pid: p for p in found}
        return found

    def settle(self, seconds: float) -> int:
        """The exit code, once the command and all that it started have ended; AssertionError names what does not end."""
        code = self.process.wait(timeout=seconds)
        end = time.monotonic() + SURVIVAL_S
        while (alive := self._survivors()) and time.monotonic() < end:
            time.sleep(0.2)
        named = [f"{each.pid} {what}" for each, what in alive]
        for process, _ in alive:
            process.kill()
        assert not named, f"outlived the driver by {SURVIVAL_S} s: {named}"
        return code

    def _survivors(self) -> list[tuple[psutil.Process, str]]:
        """What descends from the command and lives, with its command line: seen while it ran, or marked as its own."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process == self._seen.get(process.pid) or process.environ().get(MARK) == self._mark
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append((process, " ".join(process.cmdline())[:200]))
            except psutil.Error:
                continue
        return found


def signal_to(run: Run, fault: str, rng: random.Random) -> bool:
    """Whether there was a process for the signal of `fault`, which it then got."""
    number = next(n for name, n in SIGNALS.items() if fault.startswith(name))
    if "driver" in fault:
        run.descendants()
        if number == signal.SIGINT:
            os.killpg(run.process.pid, number)  # as a terminal does: the group that the command leads
        else:
            run.process.send_signal(number)
        return True
    wanted = []
    for process in run.descendants():
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if ("moodbench.worker" in command) if "worker" in fault else ("raylet" in command or "gcs_server" in command):
            wanted.append(process)
    if not wanted:
        return False
    rng.choice(wanted).send_signal(number)
    return True


def tear(folder: Path, rng: random.Random) -> None:
    """Puts what a crash or a person may leave into the store: nothing of it is named by a record."""
    root = folder / "results"
    for place in ("staging/left", "artifacts/notafit", "predictions/dataset=icwsm-tweets", "staging/fit-0/left"):
        (root / place).mkdir(parents=True, exist_ok=True)
        (root / place / f"torn-{rng.randrange(10**6)}.parquet").write_bytes(rng.randbytes(rng.randrange(400)))
    for checkpoint in sorted(root.glob("staging/fit-*/*/checkpoint-*")):
        for path in sorted(p for p in checkpoint.iterdir() if p.is_file()):
            if rng.random() < 0.2:
                path.write_bytes(path.read_bytes()[: rng.randrange(1 + path.stat().st_size)])


def damage(folder: Path, rng: random.Random) -> str | None:
    """The key of a committed file that is now cut short, an artifact's, a table's or a record; None without any."""
    root = folder / "results"
    kinds = ("artifacts", "predictions", "validation", "samples", *KINDS)
    named = {
        file["path"]
        for kind in KINDS
        for row in Store.open(root).records(kind)["files"]
        for file in row
    }  # fmt: skip
    keys = [p.relative_to(root).as_posix() for kind in kinds for p in sorted((root / kind).rglob("*")) if p.is_file()]
    committed = [key for key in keys if key in named or key.split("/")[0] in KINDS]
    if not committed:
        return None
    key = rng.choice(committed)
    path = root / key
    content = path.read_bytes()
    path.unlink()  # a file of its own again: what is staged may be the same file by another name
    path.write_bytes(content[: rng.randrange(len(content))])
    return key


def repair(folder: Path, key: str) -> set[str]:
    """The ids of the records that go when what is damaged at `key` is set aside, as the command's message asks for."""
    store = Store.open(folder / "results")
    before = {id_ for kind in KINDS for id_ in store.ids(kind)}
    found = verify(store.location)
    assert any(key in (d.column, d.id) or d.id in key for d in found.differences), f"verify does not name {key}"
    if key.split("/")[0] in KINDS:
        assert Run(folder).settle(900) == 2
        said = stderr_of(folder).read_text()
        assert f"{key}: cannot be read as Parquet" in said and "`moodbench store verify --set-aside`" in said
    set_aside(store.location, found)
    assert verify(store.location).differences == []
    return before - {id_ for kind in KINDS for id_ in store.ids(kind)}


def stderr_of(folder: Path) -> Path:
    """What the last command in `folder` has said, beside it: it must be said with a full disk too."""
    return folder.with_suffix(".stderr.txt")


class Disk:
    """A small file system at `folder`; `mounted` is False where this process may not mount one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.mounted = (
            sys.platform == "linux"
            and os.geteuid() == 0
            and self._mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "moodbench-test") == 0
        )

    def fill(self, spare_bytes: int) -> None:
        """Nothing; from now on it takes `spare_bytes` more at most."""
        for _ in range(100):
            usage = shutil.disk_usage(self._folder)
            # The kernel refuses a size below what is in use, which grows meanwhile.
            if self._mount("-o", f"remount,size={usage.used + spare_bytes}") == 0:
                return
        raise AssertionError(f"{self._folder}: cannot be made smaller")

    def make_room(self) -> None:
        """Nothing; it is as large as it was."""
        assert self._mount("-o", f"remount,size={DISK_BYTES}") == 0

    def close(self) -> None:
        """Nothing; what was in it is gone."""
        if self.mounted:
            subprocess.run(["umount", "--lazy", self._folder], check=True)
            self.mounted = False

    def _mount(self, *options: str) -> int:
        return subprocess.run(["mount", *options, self._folder], capture_output=True, check=False).returncode


def num_events(folder: Path) -> int:
    """How many lines the runs in `folder` have written about what they do."""
    return sum(path.read_bytes().count(b"\n") for path in (folder / "results" / "events").glob("*.jsonl"))


def inject(fault: str, folder: Path, disk: Disk, expected_events: int, rng: random.Random) -> bool:
    """Whether the fault came about while the command ran.

    It comes up to a second after a drawn one of the `expected_events`, so that it hits as well on a busy machine.
    """
    executor = FAULTS[fault][0]
    if fault == "full disk" and not disk.mounted:
        return Run(folder, largest_file=round(2 ** rng.uniform(9, 13))).settle(900) != 0
    awaited = num_events(folder) + rng.randrange(expected_events)
    run = Run(folder, executor)
    while num_events(folder) < awaited and not run.ended_within(0.1):
        pass
    hit = not run.ended_within(rng.uniform(0, 1))
    if fault == "full disk":
        disk.fill(rng.randrange(4) * 4096)
        code = run.settle(900)
        disk.make_room()
        said = stderr_of(folder).read_text()
        assert code in (0, 1, 2) and "Traceback" not in said, said
        told = os.strerror(errno.ENOSPC) in said or "free some space" in said  # while it ran, or before it began
        assert code == 0 or told, said
        return code != 0
    if fault == "torn, damaged and foreign files":
        run.process.kill()
        run.settle(60)
        tear(folder, rng)
        return hit
    patience = time.monotonic() + 300
    if hit:
        while not (hit := signal_to(run, fault, rng)) and not run.ended_within(0.2) and time.monotonic() < patience:
            pass
    code = run.settle(900)
    if hit and "driver" in fault and not fault.startswith("kill"):
        assert code in CODES[fault.partition(" ")[0]], f"{fault}: {code}: {stderr_of(folder).read_text()}"
    return hit
