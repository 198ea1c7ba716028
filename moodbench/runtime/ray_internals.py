"""Settings and token of Ray in this process, and all that this package uses of Ray's private modules.

A test compares the private names with the installed Ray. `python -m moodbench.runtime.ray_internals addresses|state
ADDRESS` queries the head of a cluster and prints JSON: Ray's core may block for minutes, without handling signals, if
the head does not answer, so that this process does not ask by itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

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


def ray_with_settings() -> Any:
    """Return the module ray, after its core has read the settings and the token in the current environment.

    Ray reads them only once, when it is imported, which may have been earlier and with other values.
    """
    import ray
    from ray import _raylet
    from ray._private import ray_constants

    core: Any = _raylet  # its stubs lack both attributes used here
    constants: Any = ray_constants
    # Otherwise workers of a program under `uv run` start with `uv run` again.
    constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False
    prefix = "RAY_grpc_"
    keepalive = {name.removeprefix("RAY_"): int(value) for name, value in SETTINGS.items() if name.startswith(prefix)}
    core.Config.initialize(json.dumps({"AUTH_MODE": os.environ["RAY_AUTH_MODE"].lower(), **keepalive}))
    loader = core.AuthenticationTokenLoader.instance()
    loader.reset_cache()
    loader.has_token(ignore_auth_mode=True)  # reads it now, while it is in the environment
    return ray


def available_resources() -> Mapping[str, Mapping[str, float]]:
    """Return the free resources of each node of the connected cluster, by node id."""
    from ray._private.state import available_resources_per_node

    found: Mapping[str, Mapping[str, float]] = available_resources_per_node()
    return found


def query(what: Literal["addresses", "state"], address: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Ask the head of a cluster in a separate process, with the environment of `cluster_environment`.

    Raises:
        PrerequisiteError: As `set_up_token`.
        subprocess.TimeoutExpired: If there is no answer within `timeout_s`, which includes the start of Python.
    """
    return subprocess.run(
        [sys.executable, "-m", __name__, what, address],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
        env=cluster_environment(),
    )


def _state(client: Any) -> list[dict[str, Any]]:
    """Return the fields of a `RayNode` for each node, except its labels."""
    from ray.core.generated.autoscaler_pb2 import GetClusterResourceStateReply, NodeStatus

    names = {key.hex(): node.node_manager_hostname for key, node in client.get_all_node_info(timeout=5).items()}
    reply = GetClusterResourceStateReply.FromString(client.get_cluster_resource_state(timeout_s=5))
    return [
        {
            "id": node.node_id.hex(),
            "name": names.get(node.node_id.hex(), ""),
            "address": node.node_ip_address,
            "status": NodeStatus.Name(node.status).lower(),
            "resources": dict(node.total_resources),
            "free": dict(node.available_resources),
        }
        for node in reply.cluster_resource_state.node_states
    ]


def main() -> None:
    """Answer the query in the arguments."""
    from ray import _raylet
    from ray._private.services import canonicalize_bootstrap_address_or_die

    core: Any = _raylet  # its stubs lack the client
    what, address = sys.argv[1:]
    client = core.GcsClient(address=canonicalize_bootstrap_address_or_die(address) if address == "auto" else address)
    alive = (node for node in client.get_all_node_info(timeout=5).values() if node.state == 0)
    answer = [node.node_manager_address for node in alive] if what == "addresses" else _state(client)
    print(json.dumps(answer))  # noqa: T201


if __name__ == "__main__":
    main()
