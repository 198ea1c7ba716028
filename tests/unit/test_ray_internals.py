"""The private names of Ray that MoodBench uses: gone names fail here, not in a run on a cluster."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import moodbench

RAY = "2.60"
"""The version whose private names these are; look at `moodbench/runtime/ray_internals.py` before changing it."""
PRIVATE = [
    "ray._private.ray_constants:RAY_ENABLE_UV_RUN_RUNTIME_ENV",
    "ray._private.services:canonicalize_bootstrap_address_or_die",
    "ray._private.state:available_resources_per_node",
    "ray._raylet:AuthenticationTokenLoader.has_token",
    "ray._raylet:AuthenticationTokenLoader.instance",
    "ray._raylet:AuthenticationTokenLoader.reset_cache",
    "ray._raylet:Config.initialize",
    "ray._raylet:GcsClient",
    "ray._raylet:InnerGcsClient.get_all_node_info",
    "ray._raylet:InnerGcsClient.get_cluster_resource_state",
    "ray.core.generated.autoscaler_pb2:GetClusterResourceStateReply.FromString",
    "ray.core.generated.autoscaler_pb2:NodeStatus.Name",
]
REACHES_IN = re.compile(r"ray\._private|ray\._raylet|ray import _raylet|ray\.core\.generated")


def test_the_installed_ray_is_the_one_whose_private_names_are_used():
    installed = import_module("ray").__version__
    assert installed.startswith(RAY + "."), f"Ray is {installed}; check ray_internals.py against it, then set RAY here"


@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_name_of_ray_still_exists(name):
    module, _, attribute = name.partition(":")
    found = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    assert found is not None, f"Ray {import_module('ray').__version__} has no {name}: adapt runtime/ray_internals.py"


def test_only_one_module_reaches_into_ray():
    folder = Path(moodbench.__file__).parent
    reaching = [path.name for path in folder.rglob("*.py") if REACHES_IN.search(path.read_text("utf-8"))]
    assert reaching == ["ray_internals.py"]
