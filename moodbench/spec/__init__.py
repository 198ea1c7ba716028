"""Specs: what should run, as frozen data with content-hash ids; building one needs no network, disk or GPU."""

from moodbench.spec.benchmark_spec import BASELINE_OF_SCORE, BenchmarkSpec, read_spec, spec_of_preset
from moodbench.spec.resolved import (
    EvaluateSpec,
    FitSpec,
    MeasureSpec,
    Prompt,
    ResolvedDataset,
    ResolvedModel,
    SeedSpec,
    TrialSpec,
    fit_ids,
)
