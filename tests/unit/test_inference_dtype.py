"""`--inference-dtype`: what it changes in ids and estimates, and where it is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
from refused import fail

from moodbench.benchmark.plan import intended_trials
from moodbench.benchmark.recipe import FitDevice
from moodbench.benchmark.resolve import fit_device, resolve, trial_of
from moodbench.config import load_catalogue
from moodbench.data.loader import Sources
from moodbench.errors import SpecError
from moodbench.estimate import DataSize, Estimator
from moodbench.estimate.shape import shape_of_size
from moodbench.hardware import GIB, Gpu, Hardware
from moodbench.models.predictor import deployed_dtype
from moodbench.spec import BenchmarkSpec

CATALOGUE = load_catalogue()
CPU = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)


def trials(machine=CPU, **changes):
    spec = BenchmarkSpec(models=("MiniLM-L3",), datasets=("icwsm-tweets",), **changes)
    return {trial.fit.model.name: trial for trial in resolve(spec, CATALOGUE, machine)}


def test_a_format_makes_other_evaluations_and_measurements_of_the_same_fit():
    auto, same, half = (trials(inference_dtype=name)["MiniLM-L3"] for name in ("auto", "float32", "bfloat16"))
    assert auto == same
    assert half.fit == auto.fit
    assert (half.evaluate.dtype, half.measure.dtype) == ("bf16", "bf16")
    assert half.evaluate.evaluation_id != auto.evaluate.evaluation_id == auto.measure.evaluation_id
    assert half.measure.measurement_id != auto.measure.measurement_id
    assert half.measure.evaluation_id == half.evaluate.evaluation_id
    again = trial_of(auto.fit, "cpu", CPU, auto.measure.protocol, auto.evaluate.batch_size, "bfloat16")
    assert again == half


def test_a_baseline_has_no_format():
    plain, half = (trials(inference_dtype=name)["tfidf-logreg"] for name in ("auto", "bfloat16"))
    assert plain == half


def test_predict_refuses_a_format_for_a_baseline(majority_store, capsys):
    Path("a.txt").write_text("good\n")
    said = fail(
        ["predict", "--model", "majority", "--input", "a.txt", "--output", "b.csv", "--inference-dtype", "float16"],
        capsys,
    )
    assert (
        "model majority: inference_dtype 'float16': a baseline has no weights in a number format; leave it out" in said
    )
    assert not Path("b.csv").exists()


def test_quantised_weights_are_refused_another_format():
    with pytest.raises(SpecError, match=r"inference_dtype 'bfloat16' with quantization 'nf4'.*leave one"):
        trials(quantization="nf4", inference_dtype="bfloat16")
    fit = trials(quantization="nf4")["MiniLM-L3"].fit
    assert deployed_dtype(fit, "cpu") == "fp32"


def test_a_family_that_overflows_in_fp16_is_refused_it():
    spec = BenchmarkSpec(models=("Gemma-2-2B",), datasets=("icwsm-tweets",), inference_dtype="float16")
    with pytest.raises(SpecError, match=r"model Gemma-2-2B: inference_dtype 'float16'.*overflow.*bfloat16"):
        intended_trials(spec, CATALOGUE, CPU, FitDevice("cpu"), Sources())


def test_auto_is_the_trained_format_on_a_gpu_and_fp32_on_the_cpu():
    fit = trials()["MiniLM-L3"].fit.model_copy(update={"dtype": "bf16"})
    assert [deployed_dtype(fit, device) for device in ("cuda", "cpu")] == ["bf16", "fp32"]
    assert deployed_dtype(fit, "cuda", "float32") == "fp32"


def test_16_bit_weights_take_half_the_memory_of_a_measurement_and_no_less_of_the_fit():
    fit = trials()["MiniLM-L3"].fit
    fit = fit.model_copy(update={"model": fit.model.model_copy(update={"name": "BERT-base"})})
    entry = CATALOGUE.models["BERT-base"]
    shape = shape_of_size(entry.size, entry.family, CATALOGUE.families[entry.family])
    size = DataSize(1000, 100, 100, 20.0, 60.0, 2)
    estimator = Estimator({"BERT-base": replace(shape)}, {fit.dataset.name: size})
    card = CATALOGUE.devices["rtx-3080-10g"]
    fit = fit.model_copy(update={"model": fit.model.model_copy(update={"num_hidden_layers": None})})
    whole, half = (
        estimator.trial(fit, card, CATALOGUE.protocol(None), batch_size=8, inference_dtype=dtype)
        for dtype in (None, "bf16")
    )
    saved = whole.measure.gpu_memory_bytes - half.measure.gpu_memory_bytes
    assert saved >= 2 * shape.num_params
    assert half.fit == whole.fit


@pytest.mark.parametrize(("gib", "expected"), [(2, "fp16"), (24, "fp32")])
def test_the_smallest_gpu_of_a_machine_decides_the_format_of_frozen_weights(gib, expected):
    cards = tuple(Gpu("Toy GPU", size * GIB, "1", "off", "300") for size in (80, gib))
    machine = replace(CPU, gpus=cards, memory_bytes=64 * GIB)
    spec = BenchmarkSpec(models=("BERT-base",), datasets=("icwsm-tweets",))
    found = intended_trials(spec, CATALOGUE, machine, fit_device(machine, "cuda"), Sources())
    assert found[-1].fit.dtype == found[-1].dtype == expected
