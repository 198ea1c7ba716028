import os
from pathlib import Path

import pytest
from hypothesis import settings

OF_THE_SMALL_RUN = {"test_execution.py", "test_predict.py", "test_run.py"}

settings.register_profile("moodbench", deadline=None)  # a slow machine is no wrong number
settings.load_profile("moodbench")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MOODBENCH_TRACKING"] = "off"  # a second or two for every run; its own tests turn it on


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Prepared data of the tests stays out of the user's cache."""
    os.environ["MOODBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist=loadfile`: the files that look at the one small run (`ray_run`) go to one process, which then makes it once."""
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByRun(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "the small run" if Path(file).name in OF_THE_SMALL_RUN else file

    return ByRun(config, log)
