"""Memory and time that a trial needs, from model shapes and a roofline corrected by history: pure functions."""

from moodbench.estimate.duration import DataSize, Workload
from moodbench.estimate.estimator import Estimator, History, PhaseEstimate, TrialEstimate
from moodbench.estimate.memory import FitMemory, Load, Placement, fit_memory, place
from moodbench.estimate.shape import Shape, shape_of_config, shape_of_size
