"""Shared context of the parts of `moodbench tune`: the request, its target, and the console."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from rich.console import Console

from moodbench.benchmark.cluster_site import ClusterSite
from moodbench.config import Catalogue
from moodbench.hardware import Hardware
from moodbench.spec.benchmark_spec import BenchmarkSpec
from moodbench.store import Store


@dataclass(frozen=True)
class TuneContext:
    """One call of `moodbench tune`."""

    arguments: argparse.Namespace
    spec: BenchmarkSpec
    catalogue: Catalogue
    store: Store
    machine: Hardware
    site: ClusterSite | None
    """The cluster; None: this machine's own Ray."""
    words: Console

    def say(self, text: str) -> None:
        """Print a line without markup."""
        self.words.print(text, markup=False, highlight=False, soft_wrap=True)
