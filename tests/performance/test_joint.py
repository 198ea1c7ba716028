"""How long the joint bootstrap of 18 models on 25,000 items takes with 2,000 and with 10,000 draws, ranks included.

`uv run pytest -n 0 -s -m performance tests/performance/test_joint.py`; printed beside the time allowed, 5 and 30 s on 2 cores. Nothing
is asserted about the time, which says more of a busy machine than of the program.
"""

import os
import time

import numpy as np
import pytest

from moodbench.statistics.bootstrap import bootstrap_draws
from moodbench.statistics.rank_intervals import rank_all

pytestmark = pytest.mark.performance
NUM_MODELS, NUM_ITEMS = 18, 25_000


@pytest.mark.parametrize(("num_draws", "allowed_s"), [(2_000, 5), (10_000, 30)])
def test_the_joint_bootstrap_of_eighteen_models(num_draws, allowed_s):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, NUM_ITEMS)
    ease = rng.normal(2.0, 1.5, NUM_ITEMS)
    skill = np.linspace(0, 0.6, NUM_MODELS)
    said = [np.where(ease + s + rng.logistic(size=NUM_ITEMS) > 0, labels, 1 - labels) for s in skill]
    names = [f"m{i:02d}" for i in range(NUM_MODELS)]
    wall, cpu = time.perf_counter(), time.process_time()
    joint = bootstrap_draws(labels, said, names, 2, num_draws=num_draws)
    drawn = time.perf_counter()
    ranking = rank_all(joint.names, joint.accuracy, joint.accuracy_draws, joint.num_items)
    ended = time.perf_counter()
    print(
        f"\n{NUM_MODELS} models x {NUM_ITEMS:,} items x {num_draws:,} draws: {ended - wall:.1f} s ({drawn - wall:.1f} s draws, "
        f"{ended - drawn:.1f} s ranks), {time.process_time() - cpu:.1f} s of CPU; allowed are {allowed_s} s on 2 cores; "
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f}"
    )
    assert joint.accuracy_draws.shape == (num_draws, NUM_MODELS)
    assert (joint.accuracy_draws.std(axis=0) < 0.004).all(), "sqrt(0.2 x 0.8 / 25,000) is 0.0025"
    best = int(np.argmax(joint.accuracy))
    assert ranking.low[best] == 1 and ranking.high[0] == NUM_MODELS
