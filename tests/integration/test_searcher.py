"""The searcher under Ray Tune itself."""

import pytest
from test_search_engine import ended, open_search

from moodbench.runtime.ray_local import start_ray

pytestmark = pytest.mark.integration


def test_optuna_learns_what_trials_reach_under_ray_tune(tmp_path):
    from ray import tune

    searcher, search, study = open_search(tmp_path, num_wanted=5)

    class Telling(tune.Callback):
        def on_trial_complete(self, iteration, trials, trial, **info):
            ended(searcher, search, trial.config, trial.last_result["score"])

    def train(config):
        for texts in (32, 64):
            tune.report({"score": config["lora.r"] / 10 + texts / 1000})

    ray = start_ray(1)
    try:
        asked = tune.TuneConfig(search_alg=searcher, num_samples=5, max_concurrent_trials=1)
        settings = tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0, callbacks=[Telling()])
        tune.Tuner(train, tune_config=asked, run_config=settings).fit()
    finally:
        ray.shutdown()
    learned = [t for t in study.trials if t.state.name == "COMPLETE"]
    assert len({(t.params["lora.r"], t.params["lora.alpha_over_r"]) for t in learned}) == 5
    assert all(t.value == pytest.approx(t.params["lora.r"] / 10 + 0.064) for t in learned)
