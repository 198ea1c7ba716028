"""`moodbench doctor`: show this machine, what works on it or why not, and what works on each kind of device."""

from __future__ import annotations

import argparse

from moodbench.benchmark.doctor import diagnose
from moodbench.cli.options import add_config, add_json, add_store, print_json
from moodbench.config import load_catalogue
from moodbench.models.features import FEATURES
from moodbench.report.terminal import FEATURE_HEADINGS, feature_rows, make_console, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = __doc__
    add_config(parser)
    add_store(parser)
    add_json(parser)
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
