"""MoodBench: which small language model should classify these reviews, on this hardware?

Data flows in this order; the words are packages and modules below moodbench/:

    spec -> benchmark -> worker -> trial (data, models, training, evaluation) -> store -> analysis -> report, app

The Python API is `moodbench.run`, `moodbench.leaderboard` and `moodbench.load_predictor`; see moodbench/api.py.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("moodbench")
_IN_API = ("Classifier", "Prediction", "RunSummary", "leaderboard", "load_predictor", "run")


def __getattr__(name: str) -> Any:
    """Import a name of moodbench/api.py at first use, so that `import moodbench` stays light."""
    if name not in _IN_API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("moodbench.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_IN_API])
