"""`moodbench plan`: what it prints follows from what it estimates, and it starts nothing."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from toy_store import change_row, write_toy_store

from moodbench.benchmark.estimates import history_of, machine_of
from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.estimate import DataSize, Estimator
from moodbench.hardware import Hardware
from moodbench.hub import no_network

SEVEN_BILLION = {
    "model_type": "llama",
    "vocab_size": 32000,
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
}


def plan(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["plan", *arguments])
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


@pytest.fixture
def seven_billion(tmp_path):
    """A catalogue with a model whose config is here and whose weights are not, and with prices."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text(json.dumps(SEVEN_BILLION))
    entry = {
        "method": "lora",
        "family": "bert",
        "source": {"path": str(tmp_path / "weights")},
        "licence": "none",
        "description": "seven billion parameters",
    }
    values = {"models": {"Seven": entry}, "devices": {"rtx-3080-10g": {"price_per_hour": 0.5}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    return str(tmp_path / "mine.yaml")


def test_a_model_too_large_for_a_card_is_planned_with_four_bit_weights_and_for_a_mac_refused(
    capsys, tmp_path, seven_billion
):
    arguments = ["--models", "Seven", "vader", "--datasets", "icwsm-movie", "icwsm-tweets", "--seeds", "3", "--json"]
    store = tmp_path / "store"
    code, out, _ = plan(
        capsys, *arguments, "--config", seven_billion, "--store", str(store),
        "--device-class", "rtx-3080-10g", "mac-16g",
    )  # fmt: skip
    assert code == 0 and not store.exists()
    card, mac = json.loads(out)["classes"]
    for view in (card, mac):
        assert len(view["trials"]) == 3 * 2 * 3  # tfidf-logreg is added
        assert all(trial["done"] == [] for trial in view["trials"])
    on_card = [trial for trial in card["trials"] if trial["model"] == "Seven"]
    assert {(trial["fits"], trial["quantization"]) for trial in on_card} == {(True, "nf4")}
    assert all(trial["absent"] == "model Seven" for trial in on_card)
    assert all(5e9 < trial["phases"]["fit"]["gpu_memory_bytes"] < 10 * 2**30 for trial in on_card)
    on_mac = [trial for trial in mac["trials"] if trial["model"] == "Seven"]
    assert {trial["fits"] for trial in on_mac} == {False} and "of 16 GiB are usable" in on_mac[0]["reason"]
    assert mac["cost"] is None
    assert card["cost"] == pytest.approx(0.5 * card["makespan_s"] / 3600)
    # A whole GPU for each large fit; the baselines take one of the 8 cores; measurements run alone.
    by_hand = sum(
        (t["phases"]["fit"]["seconds"] + t["phases"]["evaluate"]["seconds"]) * (1 if t["model"] == "Seven" else 1 / 8)
        + t["phases"]["measure"]["seconds"]
        for t in card["trials"]
    )
    assert card["makespan_s"] == pytest.approx(by_hand)


def test_the_plan_is_told_in_words(capsys, tmp_path, seven_billion):
    code, out, _ = plan(
        capsys, "--models", "Seven", "--datasets", "icwsm-movie", "--config", seven_billion, "--store", str(tmp_path / "s"),
        "--device-class", "rtx-3080-10g", "mac-16g",
    )  # fmt: skip
    assert code == 0
    assert "2 trials (2 models, 1 datasets, 1 seeds), 6 phases: 0 done already, 6 to run. Nothing is started." in out
    assert "QLoRA (nf4)" in out and "cost " in out and "price unknown" in out
    assert "On rtx-3080-10g 1 of 2 models fit as requested, 1 with changes (Seven)." in out
    assert "On mac-16g 1 of 2 models fit as requested, 1 do not fit (Seven)." in out
    assert "4-bit weights work on CUDA and on CPUs only" in out
    assert "Does not fit: Seven on icwsm-movie: needs " in out
    assert "To run Seven there: --quantization nf4" in out
    assert "Not on this machine yet: Seven. `run` fetches them, or `moodbench catalogue fetch` beforehand." in out
    assert "that no run in this store has corrected" in out


def test_a_preset_is_planned_for_this_machine(capsys, tmp_path):
    code, out, _ = plan(capsys, "quickstart", "--store", str(tmp_path / "s"), "--json")
    (view,) = json.loads(out)["classes"]
    assert code == 0 and view["device_class"] == "this machine"
    seconds = {t["model"]: t["phases"]["fit"]["seconds"] for t in view["trials"]}
    assert seconds["MiniLM-L6"] > seconds["MiniLM-L3"] > seconds["vader"]


def test_an_unknown_class_is_refused_with_the_nearest(capsys, tmp_path):
    code, _, err = plan(capsys, "quickstart", "--store", str(tmp_path / "s"), "--device-class", "rtx-3080")
    assert code == 2
    assert "device class" in err and "'rtx-3080'" in err and "rtx-3080-10g" in err


def test_a_request_for_nothing_is_refused(capsys):
    code, _, err = plan(capsys)
    assert code == 2 and "nothing to run" in err


def test_what_phases_took_is_read_from_their_records(tmp_path):
    store = write_toy_store(tmp_path)
    hardware = {"cpu": "toy CPU", "num_cores": 2, "memory_bytes": 2**33, "gpus": [], "mps": False}
    protocol = load_catalogue().protocol("quick").model_dump_json()
    for kind, more in (("fits", {}), ("evaluations", {}), ("measurements", {"protocol": protocol})):
        change_row(
            store, f"{kind}/*/*.parquet", environment=json.dumps({"hardware": hardware, "device": "cpu"}), **more
        )
    estimator = Estimator({}, {"toy-set": DataSize(2, 2, 8, 8.0, 9.0)})
    history = history_of(store, estimator, load_catalogue())
    assert sorted(o.phase for o in history.observations) == ["evaluate", "fit", "measure"]
    fits = store.records("fits").iloc[0]
    took = (fits["ended_at"] - fits["started_at"]).total_seconds()
    (fit,) = [o for o in history.observations if o.phase == "fit"]
    assert fit.observed_s == took == 60.0 and fit.model == "toy"
    assert fit.machine == machine_of(Hardware.from_json(hardware), "cpu") == "toy CPU x 2 cpu"


def test_planning_is_offline_even_if_the_hub_library_was_imported_online(monkeypatch):
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with no_network(), pytest.raises(OfflineModeIsEnabled):
        HfApi().dataset_info("owner/name")
    assert constants.HF_HUB_OFFLINE is False


def test_planning_a_gguf_model_converts_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    code, out, _ = plan(capsys, "--models", "SmolLM2-135M-embedded", "--datasets", "icwsm-tweets", "--json")
    assert code == 0 and not (tmp_path / "cache").exists()
    trials = json.loads(out)["classes"][0]["trials"]
    assert [(t["model"], t["absent"]) for t in trials] == [("tfidf-logreg", None), ("SmolLM2-135M-embedded", None)]


NAMED = ["BERT-tiny", "BERT-mini", "BERT-small", "ELECTRA-small", "MiniLM-L12", "DistilBERT-base", "DistilRoBERTa", "DeBERTa-v3-small", "BERT-base", "RoBERTa-base", "GPT2-small", "Pythia-70m", "Pythia-160m", "Gemma-2-2B", "Gemma-3-270M", "TinyLlama-1.1B", "Qwen2.5-1.5B", "SmolLM2-1.7B", "Phi-3-mini"]  # fmt: skip


def test_every_named_model_on_five_data_sets_has_a_place_on_a_card_of_10_gib(tmp_path):
    # In a process of its own, which must load no learning library and ask no network for it.
    (tmp_path / "mine.yaml").write_text(
        "devices: {card-8g: {description: a card of 8 GiB, device: cuda, memory_gib: 32, num_cpus: 8, gpu_memory_gib: 8, "
        "tflops: {fp32: 10, fp16: 20, bf16: 20}, bandwidth_gb_s: 500, efficiency: 0.3, source: made up}}"
    )
    arguments = ["plan", "--models", *NAMED, "--datasets", "imdb", "sst2", "amazon", "yelp", "disney", "--seeds", "3"]
    arguments += ["--config", str(tmp_path / "mine.yaml"), "--device-class", "rtx-3080-10g", "card-8g", "mac-16g"]
    arguments += ["--store", str(tmp_path / "s"), "--json"]
    code = (
        f"import sys\nfrom moodbench.cli import main\ntry:\n main({arguments!r})\nexcept SystemExit as e: assert not e.code\n"
        "print([m for m in ('torch', 'transformers', 'datasets', 'httpx2', 'ray') if m in sys.modules], file=sys.stderr)"
    )
    caches = {"HF_HOME": str(tmp_path / "hf"), "KAGGLEHUB_CACHE": str(tmp_path / "kaggle")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | caches, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"
    card, small, mac = json.loads(done.stdout)["classes"]
    assert len(card["trials"]) == (19 + 1) * 5 * 3
    assert all(trial["fits"] for trial in (*card["trials"], *small["trials"]))
    # Weights of models above a billion parameters are kept in 16 bit: Phi-3-mini's 3.72 billion are 6.9 GiB, with which
    # 10 GiB hold a training batch of 2 and not 32 texts to evaluate; the next largest, Gemma-2-2B, has 4.9 GiB.
    for view in (card, small):
        assert {t["model"] for t in view["trials"] if t["quantization"] == "nf4"} == {"Phi-3-mini"}
        bytes_of = {t["model"]: t["phases"]["fit"]["gpu_memory_bytes"] for t in view["trials"]}
        assert max(bytes_of.values()) < (10 if view is card else 8) * 2**30
    evaluated = {t["model"]: t["phases"]["evaluate"]["gpu_memory_bytes"] for t in card["trials"]}
    assert 2 * 2.6e9 < evaluated["Gemma-2-2B"] < 10 * 2**30, "16-bit weights are deployed as such"
    on_mac = {trial["model"]: trial["fits"] for trial in mac["trials"]}
    assert {name for name, fits in on_mac.items() if not fits} == {"Gemma-2-2B", "Phi-3-mini"}


def test_a_class_that_cannot_run_the_request_does_not_end_the_plan_of_the_others(capsys, tmp_path):
    arguments = [
        "--models",
        "MiniLM-L3",
        "--datasets",
        "icwsm-tweets",
        "--quantization",
        "nf4",
        "--store",
        str(tmp_path),
    ]
    code, out, _ = plan(capsys, *arguments, "--device-class", "mac-16g", "rtx-3080-10g", "--json")
    mac, card = json.loads(out)["classes"]
    assert code == 0 and "quantization 'nf4' on mps" in mac["problem"] and mac["trials"] == []
    assert card["problem"] is None and len(card["trials"]) == 2
    code, out, _ = plan(capsys, *arguments, "--device-class", "mac-16g", "rtx-3080-10g")
    assert code == 0 and "mac-16g: Apple M1" in out and "cannot run this request" in out and "MiniLM-L3" in out
    code, _, err = plan(capsys, *arguments, "--device-class", "mac-16g", "mac-8g")
    assert code == 2 and "quantization 'nf4' on mps" in err
