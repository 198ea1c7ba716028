"""`moodbench compare A B`: two contenders on the same test texts, with the interval of their difference."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from moodbench.cli.options import add_json, add_store, print_json
from moodbench.store import Store
from moodbench.visualization.comparison_view import compare_models, sentence
from moodbench.visualization.terminal import console


def add_to(commands: Any) -> None:
    """Nothing; adds the command."""
    parser = commands.add_parser("compare", help="say whether two models differ", description=__doc__)
    parser.add_argument("a", metavar="A", help="a model in the store")
    parser.add_argument("b", metavar="B", help="another model in the store")
    parser.add_argument("--dataset", metavar="NAME", help="only this data set; default: every one that both have")
    add_store(parser)
    add_json(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """0; prints one verdict per track."""
    found = compare_models(Store.open(arguments.store), arguments.a, arguments.b, arguments.dataset)
    if arguments.json:
        print_json([{"track": track, **asdict(difference)} for track, difference in found])
    else:
        for track, difference in found:
            console().print(sentence(arguments.a, arguments.b, track, difference), markup=False, soft_wrap=True)
    return 0
