"""Disk and memory that a run needs are there before it starts, or it says what is lacking and exits with 2."""

import dataclasses
import json
from collections import namedtuple

import pytest

from moodbench.benchmark import preflight
from moodbench.benchmark.context import RunContext
from moodbench.benchmark.plan import Plan, PlannedTrial
from moodbench.benchmark.resolve import resolve
from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.data.loader import load_source
from moodbench.errors import PrerequisiteError
from moodbench.estimate import DataSize, shape_of_config
from moodbench.hardware import Gpu, Hardware
from moodbench.spec import BenchmarkSpec
from moodbench.store import Store

Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "total available")


def refused(arguments, capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


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
    monkeypatch.setattr("moodbench.hardware.psutil.virtual_memory", lambda: Memory(16 * 2**30, 14 * 2**30))
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
    context = RunContext(store, load_catalogue(), machine)
    preflight.check_preflight(context.plan(trials), context)


@pytest.mark.usefixtures("seven_billion")
def test_a_card_and_a_mac_that_are_too_small_are_told_with_what_would_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "check_models", lambda *_, **__: [])  # the folder has no weights
    with pytest.raises(PrerequisiteError, match=r"needs 1\d\.\d GiB on the GPU .*it fits with --quantization nf4"):
        room_for(CARD, tmp_path)
    room_for(CARD, tmp_path, quantization="nf4", train={"max_device_batch_size": 4})
    with pytest.raises(
        PrerequisiteError, match=r"needs \d\d\.\d GiB of memory .*leave the model out, or find a device"
    ):
        room_for(MAC, tmp_path)


def fine_tuning(r: int, missing=("fit", "evaluate", "measure")) -> PlannedTrial:
    """BERT-base on all four projections of its attention, as its own config.json describes it."""
    spec = BenchmarkSpec(models=("MiniLM-L3",), datasets=("icwsm-tweets",), lora={"r": r})
    catalogue = load_catalogue()
    trial = next(t for t in resolve(spec, catalogue, CARD) if t.fit.model.name == "MiniLM-L3")
    fit = trial.fit.model_copy(update={"target_modules": ("query", "key", "value", "attention.output.dense")})
    return PlannedTrial(trial.model_copy(update={"fit": fit}), missing)


BERT_BASE = shape_of_config(
    {
        "model_type": "bert",
        "vocab_size": 30522,
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
)
TWEETS = DataSize(3000, 300, 700, 15.0, 60.0, 2)


def test_the_adapter_and_checkpoints_of_a_high_rank_are_asked_for():
    # 12 layers x 4 matrices x 1024 x (768 + 768) weights, of 4 bytes each when saved, of 12 in each of three checkpoints
    adapter = 12 * 4 * 1024 * 1536
    need = preflight.disk_need(fine_tuning(1024), TWEETS, BERT_BASE)
    rest = preflight.disk_need(fine_tuning(1024, ("evaluate", "measure")), TWEETS, BERT_BASE).kept
    assert 0 <= need.kept - rest - preflight.BESIDE_ADAPTER_BYTES - 4 * adapter < 4 * 10_000, "and a head of two labels"
    assert 0 <= need.passing - 3 * 12 * adapter < 36 * 10_000
    assert need.passing > 2.7e9 and rest < 1e6
    assert preflight.disk_need(fine_tuning(8), TWEETS, BERT_BASE).passing < need.passing / 100


def planned_tweets(folder, model="vader"):
    store = Store.open(folder / "store")
    spec = BenchmarkSpec(models=(model,), datasets=("icwsm-tweets",), lora={"r": 8})
    return store, RunContext(store, load_catalogue(), CARD).plan(resolve(spec, load_catalogue(), CARD))


def test_the_texts_and_the_cache_count_until_they_are_there(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(preflight, "_check_disks", lambda _, needed, __, cached, ___: asked.append((needed, cached)))
    monkeypatch.setattr(preflight, "check_models", lambda *_, **__: [])  # its own tests load models
    monkeypatch.setattr(preflight, "_check_memory", lambda *_: None)
    store, plan = planned_tweets(tmp_path, "MiniLM-L3")
    preflight.check_preflight(plan, RunContext(store, load_catalogue(), CARD))
    monkeypatch.setattr(Store, "has_examples", lambda *_: True)
    preflight.check_preflight(plan, RunContext(store, load_catalogue(), CARD))
    (needed, cached), (later, _) = asked
    texts = load_source("icwsm-tweets", plan.trials[0].trial.fit.dataset).frame
    assert needed - later == texts["text"].str.len().sum() + 100 * len(texts)
    num_fitted = (texts["split"] != "test").sum()
    assert 64 * num_fitted < cached < num_fitted * (64 + 4 * 64)


def test_a_cache_on_another_disk_is_asked_for_there(tmp_path, monkeypatch):
    free = {tmp_path / "a": 10**9, tmp_path / "b": 1000}
    for folder in free:
        folder.mkdir()
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: Usage(10**10, 0, free[path]))
    preflight._check_disks(tmp_path / "a" / "store", 10**8, tmp_path / "a" / "cache", 10**8, 3)
    with pytest.raises(PrerequisiteError, match=r"the 3 missing phases may write 1.86 GiB, its disk has 0.93 GiB"):
        preflight._check_disks(tmp_path / "a" / "store", 10**9, tmp_path / "a" / "cache", 10**9, 3)
    disks = {tmp_path / "a": 1, tmp_path / "b": 2}
    monkeypatch.setattr(preflight, "_existing", lambda path: Disk(path.parent, disks[path.parent]))
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda disk: Usage(10**10, 0, free[disk.path]))
    with pytest.raises(PrerequisiteError, match=r"prepared texts may take 0.09 GiB there, .*MOODBENCH_CACHE"):
        preflight._check_disks(tmp_path / "a" / "store", 10**8, tmp_path / "b" / "cache", 10**8, 3)


class Disk(namedtuple("Disk", "path number")):
    def stat(self):
        return namedtuple("Stat", "st_dev")(self.number)


def test_a_clusters_store_needs_disk_and_the_drivers_memory_does_not_matter(tmp_path, monkeypatch):
    store, plan = planned_tweets(tmp_path)
    monkeypatch.setattr("moodbench.hardware.psutil.virtual_memory", lambda: Memory(10**9, 10**6))
    preflight.check_preflight(plan, RunContext(store, load_catalogue(), CARD), num_fits_at_once=8, here=False)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(PrerequisiteError, match=r"its disk has 0\.00 GiB free"):
        preflight.check_preflight(plan, RunContext(store, load_catalogue(), CARD), num_fits_at_once=8, here=False)


@pytest.mark.parametrize(("missing", "doing"), [(("evaluate", "measure"), "evaluating"), (("measure",), "measuring")])
def test_memory_for_evaluating_and_measuring_is_looked_at_without_a_missing_fit(tmp_path, monkeypatch, missing, doing):
    store, plan = planned_tweets(tmp_path)
    plan = Plan(tuple(PlannedTrial(each.trial, missing) for each in plan.trials), num_phases_done=2)
    preflight.check_preflight(plan, RunContext(store, load_catalogue(), CARD))
    monkeypatch.setattr("moodbench.hardware.psutil.virtual_memory", lambda: Memory(10**9, 10**8))
    with pytest.raises(PrerequisiteError, match=f"{doing} needs about 0.3. GiB of memory, 0.09 GiB of"):
        preflight.check_preflight(plan, RunContext(store, load_catalogue(), CARD))
