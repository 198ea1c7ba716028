"""`moodbench app`: serve the results as a page, for this machine only unless asked otherwise."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
from collections.abc import Sequence
from contextlib import suppress

from moodbench.benchmark.context import BackgroundRun
from moodbench.cli.options import add_options, print_lines
from moodbench.config import load_catalogue
from moodbench.errors import PrerequisiteError, UsageError
from moodbench.hardware import hardware
from moodbench.report.terminal import make_console
from moodbench.runtime.ray_cluster import ClusterMonitor, check_form
from moodbench.serving.classifier import LoadedModels
from moodbench.store import Store

PASSWORD = "MOODBENCH_APP_PASSWORD"
SHORTEST_PASSWORD = 8
LOOPBACK = "127.0.0.1"
HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*", re.IGNORECASE)
ENDING_S = 30.0
"""Seconds that a run started from the page has to end when the server stops."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "Serves the results as a page on this machine; nothing is fetched from outside. It may be open "
        "while a run writes to the store."
    )
    add_options(parser, "--store")
    parser.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860 on")
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        metavar="ADDRESS",
        help=f"address to listen on; any but this machine's own needs --user and a password in {PASSWORD}",
    )
    parser.add_argument(
        "--allow-host",
        nargs="+",
        default=[],
        metavar="NAME",
        help="host names by which visitors reach the page, as through a proxy; requests to any other name but this "
        "machine's are refused",
    )
    parser.add_argument("--user", metavar="NAME", help=f"ask visitors for this name and the password in {PASSWORD}")
    parser.add_argument(
        "--show-texts",
        action="store_true",
        help="show private texts of your own data on the page too, and messages of failures that may quote them",
    )
    parser.add_argument("--allow-runs", action="store_true", help="let visitors start and cancel runs on this machine")
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="Live also shows the nodes of this Ray cluster (its head, or auto) and what is free of them, while it can "
        "be reached",
    )
    add_options(parser, "--config")
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Serve the page until it is interrupted, and return 0."""
    login = login_of(arguments.host, arguments.user, os.environ.get(PASSWORD))
    if arguments.port is not None and not 0 < arguments.port < 65536:
        raise UsageError(f"--port {arguments.port}: allowed is 1 to 65535")
    names = [arguments.host, *checked_names(arguments.allow_host)]
    store, catalogue = Store.open(arguments.store), load_catalogue(arguments.config)
    if arguments.address is not None:
        check_form(arguments.address, "--address")
    from moodbench.app import Services, build_page, launch_options, quiet_environment, refuse_unguarded

    quiet_environment()
    runner = BackgroundRun(store, catalogue, hardware()) if arguments.allow_runs else None
    services = Services(
        ask=LoadedModels(store).ask,
        runner=runner,
        show_texts=arguments.show_texts,
        cluster=None if arguments.address is None else ClusterMonitor(arguments.address).latest,
        catalogue=catalogue,
        audience=audience(arguments.host, arguments.allow_host),
    )
    try:
        page = build_page(store, hardware(), services)
        app, url, _ = page.launch(
            server_name=arguments.host, server_port=arguments.port, auth=login, **launch_options(names)
        )
        refuse_unguarded(page, app)
    except OSError as error:
        raise PrerequisiteError(
            f"--host {arguments.host} --port {arguments.port or 'any'}: cannot listen there ({error}); give a free port"
        ) from error
    lines = [f"The results in {arguments.store} are at {url} (Ctrl+C stops the server)", services.audience]
    print_lines(make_console(), [line for line in lines if line])
    with suppress(KeyboardInterrupt):
        page.block_thread()
    if runner is not None:
        runner.cancel()
        runner.wait(ENDING_S)
    return 0


def login_of(host: str, user: str | None, password: str | None) -> tuple[str, str] | None:
    """Return the name and password that visitors must give; None if none is required.

    None is required if only this machine can reach the page and no `user` is given.

    Raises: UsageError if others can reach the page without both, or if the password is too short.
    """
    if user is None:
        if is_loopback(host):
            return None
        raise UsageError(
            f"--host {host}: others could reach the page; give --user NAME and set {PASSWORD} to a password, "
            f"or leave --host out to serve this machine alone"
        )
    if password is None or len(password) < SHORTEST_PASSWORD:
        seen = "is not set" if password is None else f"has {len(password)} characters"
        raise UsageError(
            f"--user {user}: {PASSWORD} {seen}; set it to a password of at least {SHORTEST_PASSWORD} characters"
        )
    return user, password


def checked_names(names: Sequence[str]) -> Sequence[str]:
    """Return the names given with --allow-host.

    Raises: UsageError for one that is neither a host name nor an IP address.
    """
    for name in names:
        if HOST_NAME.fullmatch(name) is None and not _is_address(name):
            raise UsageError(
                f"--allow-host {name!r}: expected a host name such as reviews.example.org or an IP address, without "
                "scheme, port, path and wildcards"
            )
    return names


def audience(host: str, names: Sequence[str]) -> str:
    """Return who besides this machine can open the page that listens on `host`; empty if nobody can."""
    if is_loopback(host) and not names:
        return ""
    reach = f"it listens on {host}" if not is_loopback(host) else "a proxy may pass requests on to it"
    answers = f" and answers to {', '.join(names)}" if names else ""
    return f"Other machines can open this page: {reach}{answers}. Only a proxy with TLS encrypts what visitors send."


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
