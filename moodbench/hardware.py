"""The hardware of this machine: processors, memory, accelerators, and the keys under which speeds are comparable."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import psutil

from moodbench.errors import PrerequisiteError
from moodbench.spec.resolved import content_id

Device = Literal["cpu", "cuda", "mps"]
GIB = 2**30
LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "bitsandbytes", "datasets", "scikit-learn", "numpy", "ray")
_BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Linux names of the x86 and Arm instructions that multiply bf16."""
_OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control", "/proc/vmstat")


@dataclass(frozen=True)
class Gpu:
    """One CUDA device as its driver reports it."""

    name: str
    memory_bytes: int
    driver: str
    mig: str
    power_limit_w: str
    compute_capability: str = ""
    """For example 8.6; empty where the driver does not report it."""

    @property
    def bf16(self) -> bool:
        """Whether the device multiplies bf16 in hardware, as it does from compute capability 8.0 on."""
        major = self.compute_capability.partition(".")[0]
        return major.isdecimal() and int(major) >= 8


@dataclass(frozen=True)
class Hardware:
    """The hardware that determines speed on one machine."""

    cpu: str
    num_cores: int
    """Number of physical cores that this process may use."""
    memory_bytes: int
    gpus: tuple[Gpu, ...]
    mps: bool
    """Whether an Apple GPU is present."""
    cpu_bf16: bool = False
    """Whether the processor has instructions that multiply bf16 (AVX-512 BF16, AMX, or Arm's BF16)."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Hardware:
        """Return the hardware that a record or a node states, as `dataclasses.asdict` writes it."""
        return cls(**{**values, "gpus": tuple(Gpu(**gpu) for gpu in values.get("gpus", ()))})

    def device(self, wanted: Literal["auto", "cpu", "cuda", "mps"] = "auto") -> Device:
        """Return the device to use: `wanted`, or for `auto` the best one of this machine.

        Raises: PrerequisiteError if this machine has no such device.
        """
        if (wanted == "cuda" and not self.gpus) or (wanted == "mps" and not self.mps):
            finder = "nvidia-smi lists no GPU" if wanted == "cuda" else "this is not a Mac with Apple silicon"
            raise PrerequisiteError(f"device {wanted}: {finder} ; choose auto or cpu")
        if wanted != "auto":
            return wanted
        return "cuda" if self.gpus else "mps" if self.mps else "cpu"

    def multiplies_bf16(self, device: Device) -> bool:
        """Return whether `device` multiplies bf16 in hardware; for CUDA, whether every GPU of this machine does."""
        return {"cpu": self.cpu_bf16, "cuda": bool(self.gpus) and all(gpu.bf16 for gpu in self.gpus)}.get(device, False)

    def device_name(self, device: Device) -> str:
        """Return the human-readable name of the device."""
        if device == "cuda" and self.gpus:
            return self.gpus[0].name
        return f"{self.cpu}, {self.num_cores} cores" if device == "cpu" else f"{self.cpu} GPU"

    @property
    def devices(self) -> frozenset[Device]:
        """Devices that a phase may request on this machine."""
        has: dict[Device, bool] = {"cpu": True, "cuda": bool(self.gpus), "mps": self.mps}
        return frozenset(device for device, there in has.items() if there)

    @property
    def machine_key(self) -> str:
        """Key of this kind of machine, the same for all its devices: a user of the machine can choose any of them."""
        # MemTotal varies by some MiB between boots of one machine; whole GiB do not.
        gib = {**asdict(self), "memory_bytes": round(self.memory_bytes / GIB)}
        del gib["cpu_bf16"]  # implied by the processor's name, as the compute capability is by the GPU's
        gib["gpus"] = [{k: v for k, v in gpu.items() if k != "compute_capability"} for gpu in gib["gpus"]]
        return content_id("machine_key", gib)

    def perf_key(self, device: Device, num_threads: int) -> str:
        """Return the key of comparable speeds: same kind of machine, same device, same number of threads."""
        value = {"machine_key": self.machine_key, "device": device, "num_threads": num_threads}
        return content_id("perf_key", value)


@cache
def hardware() -> Hardware:
    """Return the hardware of this machine, from system files and nvidia-smi, without loading a learning library."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(psutil.cpu_count(logical=False) or allowed, allowed)
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return Hardware(_cpu_name(), cores, psutil.virtual_memory().total, _gpus(), mps=apple, cpu_bf16=_cpu_bf16())


def environment(device: Device) -> dict[str, Any]:
    """Return facts to store beside a record: machine, libraries, threads, load. None is part of an identity."""
    facts: dict[str, Any] = {
        "hardware": asdict(hardware()),
        "device": device,
        "os": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: library_version(name) for name in LIBRARIES},
        "moodbench": library_version("moodbench"),
        "code_revision": _code_revision(),
        "threads": {
            k: os.environ[k] for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY") if k in os.environ
        },
        "process": os.environ.get("MOODBENCH_PROCESS", "inline"),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }
    return facts


def die_with_parent() -> None:
    """On Linux, have this process killed when its parent process ends, however the parent ends."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def node_name() -> str:
    """Return the name of this host."""
    return socket.gethostname()


def library_version(name: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _code_revision() -> str | None:
    """Return the commit of a source checkout, with `-dirty` when files differ; None for an installed package."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists() or not shutil.which("git"):
        return None
    described = _output("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--match=v*")
    return described or None


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    return platform.processor() or platform.machine()


def _cpu_bf16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    return not _BF16_INSTRUCTIONS.isdisjoint(features)


def _gpus() -> tuple[Gpu, ...]:
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not shutil.which("nvidia-smi"):
        return ()
    fields = "name,memory.total,driver_version,mig.mode.current,power.limit"
    listed = _output("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    # A separate query, because older drivers do not know this field and then report nothing at all.
    capabilities = _output("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader").splitlines()
    return gpus_of(listed.splitlines(), capabilities)


def gpus_of(listed: Sequence[str], capabilities: Sequence[str]) -> tuple[Gpu, ...]:
    """Return the devices that nvidia-smi listed, one per line, with compute capabilities if it reported all of them."""
    known = capabilities if len(capabilities) == len(listed) else [""] * len(listed)
    gpus = []
    for line, capability in zip(listed, known, strict=True):
        name, mebibytes, driver, mig, power = (part.strip() for part in line.split(","))
        gpus.append(Gpu(name, int(mebibytes) * 2**20, driver, mig, power, capability.strip()))
    return tuple(gpus)


def _output(*command: str) -> str:
    """Return the standard output of `command`, or "" when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def num_oom_kills() -> int:
    """Return how many processes the OOM killer has killed so far, in this control group if it counts them."""
    for path in map(Path, _OOM_COUNTERS):
        with suppress(OSError):
            for line in path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0
