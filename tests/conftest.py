import os

import pytest
from hypothesis import settings

settings.register_profile("moodbench", deadline=None)  # a slow machine is no wrong number
settings.load_profile("moodbench")
os.environ.setdefault(
    "OMP_WAIT_POLICY", "passive"
)  # test processes share the cores: threads that wait must not burn them
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MOODBENCH_TRACKING"] = "off"  # a second or two for every run; its own tests turn it on


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Keep prepared data and converted models out of the user's cache; all test processes of a session share one."""
    root = tmp_path_factory.getbasetemp()
    os.environ["MOODBENCH_CACHE"] = str((root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "cache")
