"""Shared context of the parts of `moodbench tune`: the request, its target, and the console."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from rich.console import Console

from moodbench.benchmark.context import RunContext
from moodbench.spec.benchmark_spec import BenchmarkSpec


@dataclass(frozen=True)
class TuneContext:
    """One call of `moodbench tune`."""

    arguments: argparse.Namespace
    spec: BenchmarkSpec
    context: RunContext
    console: Console

    def say(self, text: str) -> None:
        """Print a line without markup."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
