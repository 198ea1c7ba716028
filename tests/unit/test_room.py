"""Disk and memory that a run needs are there before it starts, or it says what is lacking and exits with 2."""

import dataclasses
import json
from collections import namedtuple
from pathlib import Path

import pytest

from moodbench.benchmark import room
from moodbench.benchmark.resolve import resolve
from moodbench.benchmark.run import plan_of
from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.errors import PrerequisiteError
from moodbench.hardware import Gpu, Hardware
from moodbench.spec import BenchmarkSpec
from moodbench.store import Store

Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "total available")
RUN = ["run", "--models", "vader", "--datasets", "icwsm-tweets", "--executor", "inline", "--store"]


def refused(arguments, capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_disk_that_is_too_full_is_told_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1000, 1000))
    message = refused([*RUN, tmp_path / "results"], capsys)
    assert "6 missing phases may write 0." in message
    assert "its disk has 0.00 GiB free; free some, give a folder on another disk with --store" in message
    assert not (tmp_path / "results").exists()


def test_memory_that_no_fit_finds_is_told_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(room.psutil, "virtual_memory", lambda: Memory(10**9, 10**8))
    message = refused([*RUN, tmp_path / "results"], capsys)
    assert "fitting needs about 0." in message
    assert "of memory, 0.09 GiB of" in message
    assert "end other programs, leave the model out" in message
    assert not (tmp_path / "results").exists()


LLAMA_2_7B = {
    "model_type": "llama", "vocab_size": 32000, "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
    "intermediate_size": 11008,
}  # fmt: skip


@pytest.fixture
def seven_billion(tmp_path):
    """A folder that says it is a model of seven billion parameters."""
    folder = tmp_path / "seven"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_2_7B))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"never read")
    return str(folder)


def test_a_model_too_large_for_this_machine_is_refused_before_training(tmp_path, monkeypatch, capsys, seven_billion):
    monkeypatch.setattr(room.psutil, "virtual_memory", lambda: Memory(16 * 2**30, 14 * 2**30))
    arguments = [
        "run",
        "--models",
        seven_billion,
        "--datasets",
        "icwsm-tweets",
        "--device",
        "cpu",
        "--executor",
        "inline",
    ]
    message = refused([*arguments, "--store", tmp_path / "results"], capsys)
    assert "fitting needs about 3" in message, "4 bytes x 6.6 billion are 24.6 GiB, a quarter more with allocations"
    assert "14.00 GiB of" in message and "leave the model out" in message
    assert not (tmp_path / "results").exists()


CARD = Hardware("Toy CPU", 8, 64 * 2**30, (Gpu("NVIDIA GeForce RTX 3080", 10 * 2**30, "1", "1", "8.6"),), mps=False)
MAC = dataclasses.replace(CARD, gpus=(), mps=True, memory_bytes=16 * 2**30)


def room_for(machine, folder, **more):
    store = Store.open(folder / "store")
    spec = BenchmarkSpec(models=(str(folder / "seven"),), datasets=("icwsm-tweets",), **more)
    trials = resolve(spec, load_catalogue(), machine)
    room.check_room(plan_of(trials, store), store, machine)


@pytest.mark.usefixtures("seven_billion")
def test_a_card_and_a_mac_that_are_too_small_are_told_with_what_would_fit(tmp_path):
    with pytest.raises(PrerequisiteError, match=r"needs 1\d\.\d GiB on the GPU .*it fits with --quantization nf4"):
        room_for(CARD, tmp_path)
    room_for(CARD, tmp_path, quantization="nf4", train={"max_device_batch_size": 4})
    with pytest.raises(PrerequisiteError, match=r"needs \d\d\.\d GiB of memory .*leave the model out, or see with"):
        room_for(MAC, tmp_path)


def test_the_disk_that_a_whole_run_takes_is_less_than_was_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        room,
        "_check_disk",
        lambda plan, sizes, root: asked.extend(
            room.disk_bytes(p, sizes[p.trial.fit.dataset.revision]) for p in plan.trials
        ),
    )
    with pytest.raises(SystemExit) as ended:
        main([*RUN, str(tmp_path / "results"), "--protocol", "quick"])
    assert ended.value.code == 0
    folders = ("fits", "evaluations", "measurements", "artifacts", "predictions", "validation", "samples")
    files = (p for name in folders for p in Path(tmp_path / "results" / name).rglob("*") if p.is_file())
    assert sum(p.stat().st_size for p in files) < sum(asked)
