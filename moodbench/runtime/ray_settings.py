"""Settings and authentication token of Ray in this process, even if Ray was imported earlier."""

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
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # otherwise every worker would run `uv run` again
    "RAY_grpc_client_keepalive_time_ms": "10000",  # a cut link is noticed in seconds, not minutes
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
    "RAY_worker_niceness": "0",  # with Ray's 15, other programs starve trials and delay measurements
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_TOKEN = threading.RLock()
"""Held while a private token is in the environment, which all threads share."""
_TOKEN_ADVICE = (
    "expected the token that the cluster's head was started with: copy its file here and name it in RAY_AUTH_TOKEN_PATH"
)


def set_up_environment() -> None:
    """Set the environment variables that Ray needs in this process and in its child processes."""
    os.environ.update(SETTINGS)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Ray starts three times slower without byte code


def set_up_token() -> None:
    """Turn token authentication on if a token is known and off otherwise, so that Ray does not have to guess.

    A RAY_AUTH_MODE that is already in the environment is kept.

    Raises:
        PrerequisiteError: If it is on and there is no token.
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
    """Set `token` for a Ray that starts inside the context, and restore the variables afterwards.

    So no other cluster is sent this token.
    """
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
    """Return the environment of a process that queries a cluster: the settings and its token, never a private one.

    Raises:
        PrerequisiteError: As `set_up_token`.
    """
    with _TOKEN:
        set_up_environment()
        set_up_token()
        return dict(os.environ)


def core_with_settings() -> Any:
    """Return the module ray, after its core has read the settings and the token in the current environment.

    Ray reads them only once, when it is imported, which may have been earlier and with other values.
    """
    import ray
    from ray import _raylet
    from ray._private import ray_constants

    core: Any = _raylet  # its stubs lack both attributes used here

    constants: Any = ray_constants
    constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = (
        False  # otherwise workers of a program under `uv run` start with `uv run` again
    )
    prefix = "RAY_grpc_"
    keepalive = {name.removeprefix("RAY_"): int(value) for name, value in SETTINGS.items() if name.startswith(prefix)}
    core.Config.initialize(json.dumps({"AUTH_MODE": os.environ["RAY_AUTH_MODE"].lower(), **keepalive}))
    loader = core.AuthenticationTokenLoader.instance()
    loader.reset_cache()
    loader.has_token(ignore_auth_mode=True)  # reads it now, while it is in the environment
    return ray
