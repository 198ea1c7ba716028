"""The settings and the token of Ray in this process, whoever imported Ray before."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moodbench.errors import PrerequisiteError

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else every worker would run `uv run` again
    "RAY_grpc_client_keepalive_time_ms": "10000",  # a cut link is noticed in seconds, not minutes
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
    "RAY_worker_niceness": "0",  # Ray's 15 lets trials starve, and measurements wait, for whatever else runs
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_TOKEN = threading.RLock()
"""Held while a private token stands in the environment, which all threads share."""
_TOKEN_ADVICE = (
    "expected the token that the cluster's head was started with: copy its file here and name it in RAY_AUTH_TOKEN_PATH"
)


def set_up_environment() -> None:
    """Nothing; the settings that this process's Ray, and whatever it starts, must have."""
    os.environ.update(SETTINGS)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Ray starts three times slower without byte code


def set_up_token() -> None:
    """Nothing; token authentication is on when a token is known and off when none is, and never left to Ray's guess.

    PrerequisiteError when it is on and there is no token to give.
    """
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path.home() / ".ray" / "auth_token"
    if "RAY_AUTH_MODE" not in os.environ:
        on = os.environ.get("RAY_AUTH_TOKEN") or given or path.exists()
        os.environ["RAY_AUTH_MODE"] = "token" if on else "disabled"
    if os.environ["RAY_AUTH_MODE"].lower() != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    where = f"RAY_AUTH_TOKEN_PATH={given}" if given else f"RAY_AUTH_MODE=token, and {path}"
    try:
        empty = not path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise PrerequisiteError(f"{where}: {reason}; {_TOKEN_ADVICE}") from error
    if empty:
        raise PrerequisiteError(f"{where}: the file is empty; {_TOKEN_ADVICE}")


@contextmanager
def private_token(token: str) -> Iterator[None]:
    """What Ray starts inside has `token`; afterwards the variables are as before, so that no other cluster is shown it."""
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    with _TOKEN:
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def cluster_environment() -> dict[str, str]:
    """The environment for a process that asks a cluster: the settings, and the token of clusters and never a private one.

    PrerequisiteError as set_up_token.
    """
    with _TOKEN:
        set_up_environment()
        set_up_token()
        return dict(os.environ)


def core_with_settings() -> Any:
    """The module ray, whose core has the settings and the token that the environment names now.

    Ray reads them once, when it is imported, which may have been long before and under others.
    """
    import ray
    from ray import _raylet
    from ray._private import ray_constants

    core: Any = _raylet  # its stubs name neither of the two

    constants: Any = ray_constants
    constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = (
        False  # else workers of a program under `uv run` begin with `uv run` again
    )
    prefix = "RAY_grpc_"
    keepalive = {name.removeprefix("RAY_"): int(value) for name, value in SETTINGS.items() if name.startswith(prefix)}
    core.Config.initialize(json.dumps({"AUTH_MODE": os.environ["RAY_AUTH_MODE"].lower(), **keepalive}))
    loader = core.AuthenticationTokenLoader.instance()
    loader.reset_cache()
    loader.has_token(ignore_auth_mode=True)  # reads it now, while the environment names it
    return ray
