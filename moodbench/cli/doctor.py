"""`moodbench doctor`: show this machine, what works on it or why not, and what works on each kind of device."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodbench import __version__
from moodbench.cli.options import add_options, print_json
from moodbench.config import Catalogue, load_catalogue
from moodbench.errors import MoodBenchError
from moodbench.evaluation.process_clock import RunDelay
from moodbench.hardware import GIB, LIBRARIES, Hardware, free_memory_bytes, hardware, library_version
from moodbench.models.features import FEATURES
from moodbench.models.locate import checked_sha256
from moodbench.report.guide import FEATURE_HEADINGS, feature_rows
from moodbench.report.terminal import make_console, print_table
from moodbench.store import Store

QUIET_LOAD_PER_CORE = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = __doc__
    add_options(parser, "--config", "--store", "--json")
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Print the facts and checks, and return 0."""
    facts, checks = diagnose(load_catalogue(arguments.config), arguments.store)
    if arguments.json:
        features = {name: {device: each._asdict() for device, each in ways.items()} for name, ways in FEATURES.items()}
        print_json({"facts": facts, "checks": [vars(check) for check in checks], "features": features})
        return 0
    out = make_console()
    print_table(("", ""), [[k, str(v)] for k, v in facts.items()], out, left={""})
    out.print()
    rows = [[check.name, "yes" if check.works else "no", check.reason] for check in checks]
    print_table(("What", "Works", "Why"), rows, out, left={"What", "Works", "Why"})
    out.print()
    print_table(FEATURE_HEADINGS, feature_rows(), out, left=set(FEATURE_HEADINGS))
    return 0


@dataclass(frozen=True)
class Check:
    """Whether one thing works here, and the reason."""

    name: str
    works: bool
    reason: str


def diagnose(catalogue: Catalogue, store: str) -> tuple[dict[str, Any], list[Check]]:
    """Return facts about the machine, and checks of what a run needs."""
    machine = hardware()
    quota = "" if machine.cpu_quota is None else f", limited to the time of {machine.cpu_quota:g}"
    facts: dict[str, Any] = {
        "moodbench": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": f"{machine.cpu}, {machine.num_cores} cores{quota}",
        "memory": f"{machine.memory_bytes / GIB:.1f} GiB, {free_memory_bytes() / GIB:.1f} GiB free",
        "accelerator": ", ".join(gpu.name for gpu in machine.gpus) or ("Apple GPU" if machine.mps else "none"),
        "device used": machine.device(),
        **{name: library_version(name) or "not installed" for name in LIBRARIES},
    }
    checks = [
        *_device_checks(machine),
        *_model_checks(catalogue),
        _store_check(store),
        _disk_check(store),
        *_clock_checks(machine),
    ]
    return facts, checks


def _device_checks(machine: Hardware) -> list[Check]:
    cuda = bool(machine.gpus)
    return [
        Check("training on the CPU, fp32", True, "always possible"),
        Check("training on CUDA, fp16", cuda, "a CUDA device is present" if cuda else "nvidia-smi shows no device"),
        Check("training on Apple's GPU, fp32", machine.mps, "Apple silicon" if machine.mps else "not Apple silicon"),
        Check("local Ray", bool(library_version("ray")), "ray is installed" if library_version("ray") else "no ray"),
    ]


def _model_checks(catalogue: Catalogue) -> list[Check]:
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


def _store_check(uri: str) -> Check:
    try:
        Store.open(uri).check_writable()
    except MoodBenchError as error:
        return Check("writing results", False, str(error))
    return Check("writing results", True, f"{uri}: files appear whole or not at all")


def _disk_check(uri: str) -> Check:
    if "://" in uri:
        return Check("disk space", True, "not a local folder")
    folder = Path(uri).resolve()
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free
    return Check("disk space", free > GIB, f"{free / GIB:.1f} GiB free; a run keeps some MiB per small model")


def _clock_checks(machine: Hardware) -> list[Check]:
    available = RunDelay().available
    delay = "the system tells how long a process waited for a CPU" if available else "no /proc/self/schedstat here"
    quiet, load = False, "this system tells no load average"
    if hasattr(os, "getloadavg"):
        average = os.getloadavg()[0]
        quiet = average <= QUIET_LOAD_PER_CORE * machine.num_cores
        load = f"load average {average:.2f} on {machine.num_cores} cores"
        load += "" if quiet else "; other programs may disturb the clock"
    return [
        Check("telling a disturbed measurement", available, delay),
        Check("quiet enough to measure", quiet, load),
    ]
