"""Facts about this machine and checks of what works on it, without running anything."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from moodbench import __version__
from moodbench.config import Catalogue
from moodbench.errors import MoodBenchError
from moodbench.evaluation.process_clock import RunDelay
from moodbench.hardware import LIBRARIES, Hardware, hardware, library_version
from moodbench.models.locate import checked_sha256
from moodbench.store import Store

QUIET_LOAD_PER_CORE = 0.1


@dataclass(frozen=True)
class Check:
    """Whether one thing works here, and the reason."""

    name: str
    works: bool
    reason: str


def diagnose(catalogue: Catalogue, store: str) -> tuple[dict[str, Any], list[Check]]:
    """Return facts about the machine, and checks of what a run needs."""
    machine = hardware()
    memory = psutil.virtual_memory()
    facts: dict[str, Any] = {
        "moodbench": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": f"{machine.cpu}, {machine.num_cores} cores",
        "memory": f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free",
        "accelerator": ", ".join(gpu.name for gpu in machine.gpus) or ("Apple GPU" if machine.mps else "none"),
        "device used": machine.device(),
        **{name: library_version(name) or "not installed" for name in LIBRARIES},
    }
    checks = [
        *_devices(machine),
        *_models(catalogue),
        _store(store),
        _disk(store),
        _delay(),
        _quiet(machine),
    ]
    return facts, checks


def _devices(machine: Hardware) -> list[Check]:
    cuda = bool(machine.gpus)
    return [
        Check("training on the CPU, fp32", True, "always possible"),
        Check("training on CUDA, fp16", cuda, "a CUDA device is present" if cuda else "nvidia-smi shows no device"),
        Check("training on Apple's GPU, fp32", machine.mps, "Apple silicon" if machine.mps else "not Apple silicon"),
        Check("local Ray", bool(library_version("ray")), "ray is installed" if library_version("ray") else "no ray"),
    ]


def _models(catalogue: Catalogue) -> list[Check]:
    checks = []
    for name, entry in catalogue.models.items():
        if entry.source is None or entry.source.hub:
            continue
        try:
            sha256 = checked_sha256(name, entry.source)
        except MoodBenchError as error:
            checks.append(Check(f"weights of {name}", False, str(error)))
        else:
            checks.append(Check(f"weights of {name}", True, f"sha256 {sha256[:12]}... as pinned"))
    return checks


def _store(uri: str) -> Check:
    try:
        Store.open(uri).check_writable()
    except MoodBenchError as error:
        return Check("writing results", False, str(error))
    return Check("writing results", True, f"{uri}: files appear whole or not at all")


def _disk(uri: str) -> Check:
    if "://" in uri:
        return Check("disk space", True, "not a local folder")
    folder = Path(uri).resolve()
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free
    return Check("disk space", free > 2**30, f"{free / 2**30:.1f} GiB free; a run keeps some MiB per small model")


def _delay() -> Check:
    available = RunDelay().available
    reason = "the system tells how long a process waited for a CPU" if available else "no /proc/self/schedstat here"
    return Check("telling a disturbed measurement", available, reason)


def _quiet(machine: Hardware) -> Check:
    if not hasattr(os, "getloadavg"):
        return Check("quiet enough to measure", False, "this system tells no load average")
    load = os.getloadavg()[0]
    quiet = load <= QUIET_LOAD_PER_CORE * machine.num_cores
    reason = f"load average {load:.2f} on {machine.num_cores} cores"
    return Check("quiet enough to measure", quiet, reason + ("" if quiet else "; other programs may disturb the clock"))
