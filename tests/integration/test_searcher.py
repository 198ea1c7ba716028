"""The searcher under Ray Tune itself."""

from types import SimpleNamespace

import pytest
from test_search_engine import searcher

from moodbench.runtime.ray_local import start_ray

pytestmark = pytest.mark.integration


def test_optuna_learns_what_trials_reach_under_ray_tune(tmp_path):
    from ray import tune

    made, inner = searcher(tmp_path, num_wanted=5)

    def train(config):
        from moodbench.tune.trainable import Progress

        (point,) = config["members"]
        name = f"{point['lora.r']}-{point['lora.alpha_over_r']}"
        progress = Progress([SimpleNamespace(fit_id=name, train=SimpleNamespace(select_by="f1_macro"))], tune.report)
        for texts in (32, 64):
            progress.reached(name, texts, point["lora.r"] / 10 + texts / 1000)

    ray = start_ray(1)
    try:
        asked = tune.TuneConfig(search_alg=made, num_samples=5, max_concurrent_trials=1)
        tune.Tuner(
            train, tune_config=asked, run_config=tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0)
        ).fit()
    finally:
        ray.shutdown()
    learned = [t for t in inner._ot_study.trials if t.state.name == "COMPLETE"]
    assert len({(t.params["lora.r"], t.params["lora.alpha_over_r"]) for t in learned}) == 5
    assert all(t.value == pytest.approx(t.params["lora.r"] / 10 + 0.064) for t in learned)
