"""A search checks its model before it starts, as a run does."""

import pytest
from tiny_models import save_checkpoint

from moodbench.cli import main

pytestmark = pytest.mark.integration


def test_a_search_for_a_damaged_model_is_refused_before_it_is_registered(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    save_checkpoint(folder, "bert", decoder=False)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    space = tmp_path / "space.yaml"
    space.write_text(
        "description: small ranks\nparameters: {lora.r: {distribution: choice, values: [2, 4]}}\nnum_trials: 2\ntraining_seed: 1000\n"
    )
    options = ["--space", str(space), "--seeds", "0", "--store", str(tmp_path / "store")]
    with pytest.raises(SystemExit) as ended:
        main(["tune", "--model", str(folder), "--dataset", "icwsm-tweets", *options])
    assert ended.value.code == 2
    assert "its header says" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "store").rglob("*") if "search" in path.name]
