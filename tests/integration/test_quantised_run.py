"""4-bit weights on the CPU, from the command to a row of their own on the board beside the plain ones."""

import json
import shutil

import pytest
from conftest import moodbench

pytestmark = pytest.mark.integration


def test_nf4_lands_on_the_board_beside_fp32_with_smaller_weights(ray_run, config, tmp_path):
    folder, _ = ray_run
    shutil.copytree(folder / "results", tmp_path / "results")
    arguments = ("run", "small", "--models", "MiniLM-L3", "--quantization", "nf4", "--config", config)
    done = moodbench(*arguments, "--executor", "inline", "--json", cwd=tmp_path)
    rows = {row["name"]: row for row in json.loads(done.stdout)["board"]}
    plain, nf4 = rows["MiniLM-L3"], rows["MiniLM-L3 nf4"]
    assert (plain["quantization"], nf4["quantization"]) == ("none", "nf4")
    assert plain["track"] == nf4["track"], "trained on the same texts and tested on the same"
    assert plain["num_params"] == nf4["num_params"] and plain["num_trainable"] == nf4["num_trainable"]
    # 5.3 of 17.4 million parameters are matrices of the 3 layers: 0.516 bytes each instead of 4, the rest stays whole.
    assert plain["weights_bytes"] - nf4["weights_bytes"] == pytest.approx(3 * 12 * 384**2 * (4 - 0.516), rel=0.05)
    for row in (plain, nf4):
        assert row["accuracy"] > 0.5 and row["latency_p50_s"] > 0 and row["memory_peak_bytes"] > row["weights_bytes"]
    shown = moodbench("leaderboard", cwd=tmp_path).stdout
    assert "MiniLM-L3 nf4" in shown
