"""The hardware of this machine: processors, memory, accelerators, and the keys under which speeds are comparable."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil

from moodbench.errors import PrerequisiteError
from moodbench.spec.resolved import content_id

Device = Literal["cpu", "cuda", "mps"]
GIB = 2**30
LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "bitsandbytes", "datasets", "scikit-learn", "numpy", "ray")
_BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Linux names of the x86 and Arm instructions that multiply bf16."""
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, usage, and the line of memory.stat with the file cache that can be dropped: control groups 2 and 1."""
_UNLIMITED_BYTES = 2**60
"""Version 1 states no limit as the largest multiple of the page size."""
_OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control", "/proc/vmstat")
_ARCHITECTURE = re.compile("(sm|compute)_([0-9]{2,}[af]?)")
"""An architecture of NVIDIA for which torch may be built."""


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
    unified: bool = False
    """Whether its memory is that of the machine, so that the driver reports none."""

    @property
    def bf16(self) -> bool:
        """Whether the device multiplies bf16 in hardware, as it does from compute capability 8.0 on."""
        major = self.compute_capability.partition(".")[0]
        return major.isdecimal() and int(major) >= 8

    def runs(self, architectures: Sequence[str]) -> bool:
        """Return whether a torch built for `architectures`, such as sm_86 and compute_90, runs on this device.

        Machine code (sm) runs on the same major version from its minor version on, intermediate code (compute) is
        compiled for all later ones. Unknown capabilities and no architectures of NVIDIA, such as gfx90a, count as yes.

        Source: NVIDIA, CUDA C++ Programming Guide, section on binary and PTX compatibility.
        """
        major, _, minor = self.compute_capability.partition(".")
        known = [found for name in architectures if (found := _ARCHITECTURE.fullmatch(name))]
        if not (major.isdecimal() and minor.isdecimal() and known):
            return True
        here = (int(major), int(minor))
        for kind, digits in (found.groups() for found in known):
            built = (int(digits.rstrip("af")[:-1]), int(digits.rstrip("af")[-1]))
            special = not digits.isdecimal()  # sm_90a: for this capability alone
            same_major = built[0] == here[0] and built <= here and kind == "sm"
            if built == here or (not special and (same_major or (kind == "compute" and built <= here))):
                return True
        return False


@dataclass(frozen=True)
class Hardware:
    """The hardware that determines speed on one machine."""

    cpu: str
    num_cores: int
    """Number of physical cores that this process may use."""
    memory_bytes: int
    """Memory that this process may use: that of the machine, or the limit of its control group."""
    gpus: tuple[Gpu, ...]
    mps: bool
    """Whether an Apple GPU is present."""
    cpu_bf16: bool = False
    """Whether the processor has instructions that multiply bf16 (AVX-512 BF16, AMX, or Arm's BF16)."""
    cpu_quota: float | None = None
    """CPUs' worth of time that the control group of this process may use; None without a limit."""

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
        if self.cpu_quota is None:
            del gib["cpu_quota"]  # keys of machines without a limit stay as they were
        implied = ("compute_capability", "unified")
        gib["gpus"] = [{k: v for k, v in gpu.items() if k not in implied} for gpu in gib["gpus"]]
        return content_id("machine_key", gib)

    def perf_key(self, device: Device, num_threads: int) -> str:
        """Return the key of comparable speeds: same kind of machine, same device, same number of threads."""
        value = {"machine_key": self.machine_key, "device": device, "num_threads": num_threads}
        return content_id("perf_key", value)


@cache
def hardware() -> Hardware:
    """Return the hardware of this machine, from system files and nvidia-smi, without loading a learning library."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = cgroup_limits()
    cores = min(psutil.cpu_count(logical=False) or allowed, allowed)
    if limits.cpus is not None:
        cores = max(1, min(cores, int(limits.cpus)))
    memory = min(psutil.virtual_memory().total, limits.memory_bytes or sys.maxsize)
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return Hardware(_cpu_name(), cores, memory, _gpus(), mps=apple, cpu_bf16=_cpu_bf16(), cpu_quota=limits.cpus)


def free_memory_bytes() -> int:
    """Return the memory that this process may still use: what is free, within the limit of its control group."""
    limits = cgroup_limits()
    return min(psutil.virtual_memory().available, sys.maxsize if limits.free_bytes is None else limits.free_bytes)


class CgroupLimits(NamedTuple):
    """Limits of the control group of this process, the strictest of it and its parents; None without a limit."""

    cpus: float | None
    """CPUs' worth of time."""
    memory_bytes: int | None
    free_bytes: int | None
    """Free memory in bytes, counting file cache that can be dropped."""


def cgroup_limits(root: Path = Path("/")) -> CgroupLimits:
    """Return the limits of this process's control group, version 1 or 2, as the files under `root` state them.

    Source: Linux kernel, Documentation/admin-guide/cgroup-v2.rst (cpu.max, memory.max) and
    cgroup-v1/memory.rst, and Documentation/scheduler/sched-bwc.rst (cpu.cfs_quota_us).
    """
    cpus: list[float] = []
    memory: list[tuple[int, int]] = []
    for folder in _cgroup_folders(root):
        version_1 = [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
        match _words(folder / "cpu.max") or version_1:
            case [quota, period] if quota.isdecimal() and period.isdecimal():
                cpus.append(int(quota) / int(period))
        for limit, usage, cached in _MEMORY_FILES:
            stated = "".join(_words(folder / limit))
            if stated.isdecimal() and int(stated) < _UNLIMITED_BYTES:
                used = int("".join(_words(folder / usage)) or 0) - _statistic(folder / "memory.stat", cached)
                memory.append((int(stated), max(0, int(stated) - max(0, used))))
    return CgroupLimits(
        min(cpus, default=None), min((m for m, _ in memory), default=None), min((f for _, f in memory), default=None)
    )


def _cgroup_folders(root: Path) -> list[Path]:
    """Return the folders of this process's control groups and of their parents, for all controllers.

    Inside a container, the paths of /proc/self/cgroup may be those of the host, and do not exist; then the folders
    where the controllers are mounted count.
    """
    found: list[Path] = []
    base = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        mounted = base / controllers.removeprefix("name=") if controllers else base
        own = mounted / path.strip("/")
        found += [folder for folder in (own, *own.parents) if folder == mounted or mounted in folder.parents]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _statistic(path: Path, name: str) -> int:
    found = (line.split() for line in _lines(path))
    return next((int(words[1]) for words in found if len(words) == 2 and words[0] == name), 0)


def environment(device: Device) -> dict[str, Any]:
    """Return facts to store beside a record: machine, libraries, threads, load. None is part of an identity."""
    return {
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


def die_with_parent() -> None:
    """On Linux, have this process killed when its parent process ends, however the parent ends."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


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
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    return platform.processor() or platform.machine()


def _cpu_bf16() -> bool:
    lines = _lines(Path("/proc/cpuinfo"))
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    return not _BF16_INSTRUCTIONS.isdisjoint(features)


def _gpus() -> tuple[Gpu, ...]:
    if not shutil.which("nvidia-smi"):
        return ()
    fields = "name,memory.total,driver_version,mig.mode.current,power.limit,uuid"
    listed = _output("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    # A separate query, because older drivers do not know this field and then report nothing at all.
    capabilities = _output("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader").splitlines()
    machine_bytes = psutil.virtual_memory().total
    return gpus_of(listed.splitlines(), capabilities, os.environ.get("CUDA_VISIBLE_DEVICES"), machine_bytes)


def gpus_of(
    listed: Sequence[str], capabilities: Sequence[str], visible: str | None = None, machine_bytes: int = 0
) -> tuple[Gpu, ...]:
    """Return the usable devices of those that nvidia-smi listed, one per line, in CUDA's order.

    Compute capabilities count if it reported all of them. `visible` is CUDA_VISIBLE_DEVICES. A device without memory
    of its own ([N/A]) shares the machine's `machine_bytes`; one that reports an error in place of its memory is left
    out, as are lines that are no device.
    """
    known = capabilities if len(capabilities) == len(listed) else [""] * len(listed)
    gpus: dict[str, Gpu | None] = {}
    for line, capability in zip(listed, known, strict=True):
        parts = [part.strip() for part in line.rsplit(",", 5)]
        if len(parts) == 6:
            gpus[parts[5]] = _gpu_of(parts, capability.strip(), machine_bytes)
    chosen = list(gpus) if visible is None else visible_uuids(list(gpus), visible)
    return tuple(gpu for uuid in chosen if (gpu := gpus[uuid]) is not None)


def _gpu_of(parts: Sequence[str], capability: str, machine_bytes: int) -> Gpu | None:
    name, mebibytes, driver, mig, power, _ = parts
    capability = capability if capability.replace(".", "").isdecimal() else ""
    if mebibytes.isdecimal():
        return Gpu(name, int(mebibytes) * 2**20, driver, mig, power, capability)
    if mebibytes.strip("[]").lower() in ("n/a", "not supported"):
        return Gpu(name, machine_bytes, driver, mig, power, capability, unified=True)
    return None  # [Unknown Error], [GPU requires reset]


def visible_uuids(uuids: Sequence[str], visible: str) -> list[str]:
    """Return the devices that CUDA_VISIBLE_DEVICES names, by index or by the start of the uuid, in its order.

    As in CUDA, the first name that is not a device ends the list, and a device that is named twice empties it. A MIG
    slice (MIG-...) is not resolved: its name ends the list too.

    Source: NVIDIA, CUDA C++ Programming Guide, section on environment variables.
    """
    found: list[str] = []
    for name in (part.strip() for part in visible.split(",")):
        if name.isdecimal() and int(name) < len(uuids):
            matches = [uuids[int(name)]]
        else:
            matches = [uuid for uuid in uuids if name.startswith("GPU-") and uuid.startswith(name)]
        if len(matches) != 1:
            break
        found += matches
    return found if len(set(found)) == len(found) else []


def _output(*command: str) -> str:
    """Return the standard output of `command`, or "" when it fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def num_oom_kills() -> int:
    """Return how many processes the OOM killer has killed so far, in this control group if it counts them."""
    lines = (line.partition(" ") for path in _OOM_COUNTERS for line in _lines(Path(path)))
    return next((int(count) for name, _, count in lines if name == "oom_kill"), 0)
