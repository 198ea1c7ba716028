import os

import pytest
from hypothesis import settings

settings.register_profile("moodbench", deadline=None)  # a slow machine is no wrong number
settings.load_profile("moodbench")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MOODBENCH_TRACKING"] = "off"  # a second or two for every run; its own tests turn it on


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Prepared data of the tests stays out of the user's cache."""
    os.environ["MOODBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
