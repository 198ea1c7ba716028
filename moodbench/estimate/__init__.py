"""Memory and time that a trial needs, from model shapes and a roofline corrected by history: pure functions."""

from moodbench.estimate.estimator import Estimator, PhaseEstimate, TrialEstimate
from moodbench.estimate.history import History
from moodbench.estimate.memory import FitMemory, Load, fit_memory
from moodbench.estimate.placement import Placement, place
from moodbench.estimate.shape import Shape, shape_of_config, shape_of_size
from moodbench.estimate.workload import DataSize, Workload

__all__ = [
    "DataSize",
    "Estimator",
    "FitMemory",
    "History",
    "Load",
    "PhaseEstimate",
    "Placement",
    "Shape",
    "TrialEstimate",
    "Workload",
    "fit_memory",
    "place",
    "shape_of_config",
    "shape_of_size",
]
