import dataclasses

import pytest

from moodbench.benchmark.resolve import resolve
from moodbench.cli.commands import parser
from moodbench.cli.options import spec_of
from moodbench.config.catalogue import load_catalogue, merge
from moodbench.config.schema import Augmentation, LoraDefaults, TextDefaults, TrainDefaults
from moodbench.errors import DataError, PrerequisiteError, SpecError, UnknownNameError
from moodbench.hardware import Gpu, Hardware
from moodbench.spec import BASELINE_OF_SCORE, BenchmarkSpec, TrialSpec, read_spec, spec_of_preset
from moodbench.spec.benchmark_spec import spec_from_values

CPU = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)
CUDA = dataclasses.replace(CPU, gpus=(Gpu("Toy GPU", 8 * 2**30, "1", "[N/A]", "70"),))
APPLE = dataclasses.replace(CPU, mps=True)
GOOD = {"models": ["MiniLM-L6"], "datasets": ["icwsm-movie"]}
PACKAGED = load_catalogue()


def test_every_bad_field_is_told_at_once():
    with pytest.raises(SpecError) as told:
        spec_from_values({"models": [], "datasets": [1], "seed": 1}, "the options")
    assert [line.split(": ")[:2] for line in str(told.value).splitlines()] == [
        ["the options", "models"], ["the options", "datasets.0"], ["the options", "seed"]
    ]  # fmt: skip


def test_every_fault_of_a_spec_file_is_told_with_its_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "models: [vader]\ndatasets: [d]\ntrain:\n  epoch: 1\n  learning_rate: 7\nlora:\n  r: 0\nseed: 3\naugment: {copies: 99}\n"
    )
    with pytest.raises(SpecError) as told:
        read_spec(path)
    lines = [line.removeprefix(f"{path}, ").split(": ")[:2] for line in str(told.value).splitlines()]
    assert sorted(lines) == [["line 4", "train.epoch"], ["line 5", "train.learning_rate"], ["line 7", "lora.r"],
                             ["line 8", "seed"], ["line 9", "augment.copies"]]  # fmt: skip


ABSURD = {
    ("train", "epochs"): ("1e9", "1000"), ("train", "learning_rate"): ("1e6", "1"), ("train", "weight_decay"): ("1e3", "10"),
    ("train", "effective_batch_size"): ("1e12", "65536"), ("train", "max_device_batch_size"): ("65537", "65536"),
    ("train", "max_grad_norm"): ("1e30", "1000000"), ("train", "base_dropout"): ("1", "1"), ("train", "warmup_share"): ("1", "1"),
    ("train", "evaluations_per_epoch"): ("1e6", "1000"), ("train", "max_evaluation_steps"): ("1e15", "1000000"),
    ("train", "patience"): ("1e15", "1000000"), ("train", "min_steps"): ("1e15", "1000000"),
    ("train", "max_steps"): ("1e15", "1000000"), ("train", "validation_share"): ("2", "1"), ("lora", "r"): ("100000", "1024"), ("lora", "lora_alpha"): ("1e30", "10000"),
    ("lora", "lora_dropout"): ("1", "1"), ("lora", "loraplus_lr_ratio"): ("1e9", "1000"),
    ("text", "max_length"): ("1000000000", "131072"), ("augment", "copies"): ("1000", "16"), ("augment", "word_dropout"): ("1", "1"),
}  # fmt: skip
"""Field -> a value that nobody means, and the bound that the message must name."""


@pytest.mark.parametrize(("section", "field"), ABSURD)
def test_a_value_that_nobody_means_is_refused_with_the_bound(section, field, tmp_path):
    value, bound = ABSURD[section, field]
    path = tmp_path / "run.yaml"
    path.write_text(f"models: [vader]\ndatasets: [icwsm-tweets]\n{section}:\n  {field}: {value}\n")
    with pytest.raises(
        SpecError, match=rf"line 4: {section}.{field}: .*less than (or equal to )?{bound} \(seen: {value[0]}"
    ):
        read_spec(path)


def test_every_number_of_a_recipe_has_an_upper_bound():
    for schema in (LoraDefaults, TrainDefaults, TextDefaults, Augmentation):
        for name, field in schema.model_fields.items():
            if any(kind in str(field.annotation) for kind in ("int", "float")):
                bounded = any(hasattr(mark, "le") or hasattr(mark, "lt") for mark in field.metadata)
                assert bounded or any(bound in str(field.annotation) for bound in ("Lt(", "Le(")), name


def test_a_spec_file_says_what_its_fields_say(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("models: [vader]\ndatasets: [icwsm-movie]\nseeds: [3, 1]\ntrain: {learning_rate: 1e-3}\n")
    assert read_spec(path) == BenchmarkSpec(
        models=("vader",), datasets=("icwsm-movie",), seeds=(3, 1), train={"learning_rate": 0.001}
    )


def test_a_hub_data_set_by_id_is_an_entry_like_those_of_the_catalogue():
    options = ["--models", "vader", "--data", "hub:shop/reviews@v2", "--text-column", "title,body", "--label-column", "mood",
               "--data-config", "large", "--splits", "train=learn,test=check", "--labels", "bad,good"]  # fmt: skip
    name, entry = spec_of(parser().parse_args(["run", *options]), PACKAGED).own
    assert name == "reviews" and entry.file is None
    assert entry.hub.model_dump(exclude_defaults=True) == {
        "id": "shop/reviews", "revision": "v2", "config": "large", "text_columns": ("title", "body"),
        "label_column": "mood", "splits": {"train": "learn", "test": "check"}, "labels": ("bad", "good"),
    }  # fmt: skip


def test_own_data_in_a_spec_file_are_what_the_options_give(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "models: [tfidf-logreg]\ndata: reviews.csv\ntext_column: review\nlabel_column: stars\n"
        "label_map: {1: negative, 2.0: negative, 3: drop, 4: positive, 5: positive}\nseeds: 2\n"
        "lora: {r: 16}\ntrain: {epochs: 3, learning_rate: 1e-3}\n"
    )
    options = ["--models", "tfidf-logreg", "--data", "reviews.csv", "--text-column", "review", "--label-column", "stars",
               "--label-map", "1=negative,2=negative,3=drop,4=positive,5=positive", "--seeds", "2",
               "--lora", "r=16", "--train", "epochs=3", "learning_rate=1e-3"]  # fmt: skip
    from_file, from_options = (
        spec_of(parser().parse_args(["run", *words]), PACKAGED) for words in ([str(path)], options)
    )
    assert from_file.own == from_options.own
    assert from_file.own[1].file.label_map == {
        "1": "negative",
        "2": "negative",
        "3": "drop",
        "4": "positive",
        "5": "positive",
    }
    dropped = {"label_map"}
    assert from_file.model_dump(exclude=dropped) == from_options.model_dump(exclude=dropped)
    assert (from_file.seeds, from_file.lora, from_file.train) == (
        (0, 1),
        {"r": 16},
        {"epochs": 3, "learning_rate": 0.001},
    )


def test_there_is_an_option_for_every_field_of_a_spec():
    (commands,) = (
        action
        for action in parser()._actions
        if action.dest == "command" or (hasattr(action, "choices") and action.choices)
    )
    options = {action.dest for action in commands.choices["run"]._actions}
    assert set(BenchmarkSpec.model_fields) - options == set()


def test_a_spec_file_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(PrerequisiteError, match=r"absent.yaml: No such file"):
        read_spec(tmp_path / "absent.yaml")
    (tmp_path / "run.yaml").write_bytes(b"models: \xff")
    with pytest.raises(SpecError, match=r"run.yaml: not UTF-8"):
        read_spec(tmp_path / "run.yaml")


def test_a_preset_is_a_spec_and_options_override_it():
    spec = spec_of_preset("quickstart", PACKAGED, {"seeds": (5,), "device": "cpu"})
    assert (spec.seeds, spec.device) == ((5,), "cpu")
    preset = PACKAGED.preset("quickstart")
    assert (spec.max_train_examples, spec.protocol) == (preset.max_train_examples, "quick")
    assert spec.datasets == ("icwsm-movie",)
    assert spec_of_preset("embedded", PACKAGED, {}).seeds == (0, 1, 2)
    changed = spec_of_preset("quickstart", PACKAGED, {"train": {"epochs": 3, "weight_decay": 0.1}, "lora": {"r": 4}})
    assert changed.train == {"epochs": 3, "evaluations_per_epoch": 1, "weight_decay": 0.1}, "only what was given"
    assert changed.lora == {"r": 4}


def test_the_presets_of_named_models_are_on_amazon_and_on_other_data_where_one_says_so():
    fast = ("BERT-tiny", "BERT-mini", "BERT-small", "ELECTRA-small", "MiniLM-L12")
    larger = ("DistilBERT-base", "DistilRoBERTa", "DeBERTa-v3-small", "BERT-base", "RoBERTa-base")
    expected = {
        "ultra-fast": set(fast),
        "production": set(larger),
        "research": {*fast[:3], "GPT2-small", "Pythia-70m", *larger},
    }
    for name, models in expected.items():
        spec = spec_of_preset(name, PACKAGED, {})
        assert (set(spec.models), spec.datasets) == (models, ("amazon",))
        assert all(PACKAGED.model(model).method == "lora" for model in models) and PACKAGED.dataset("amazon")
        assert spec_of_preset(name, PACKAGED, {"datasets": ("icwsm-movie",)}).datasets == ("icwsm-movie",)
        own = {"data": "a.csv", "text_column": "t", "label_column": "l"}
        assert spec_of_preset(name, PACKAGED, own).datasets == ()


def test_an_unknown_preset_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown preset 'quick-start': did you mean 'quickstart'"):
        spec_of_preset("quick-start", PACKAGED, {})
    with pytest.raises(SpecError, match=r"preset quickstart: seeds.0: .*\(seen: -4\)"):
        spec_of_preset("quickstart", PACKAGED, {"seeds": [-4]})


def resolved(machine=CPU, catalogue=PACKAGED, **changes):
    return resolve(BenchmarkSpec(**(GOOD | changes)), catalogue, machine)


UNRESOLVABLE = {
    "fields that do not go together": (
        {"lora": {"r": 3, "init_lora_weights": "orthogonal"}}, SpecError, r"the request: lora: .*orthogonal with r 3"
    ),
    "... with a model that reads neither": (
        {"models": ["vader"], "lora": {"r": 3, "init_lora_weights": "orthogonal"}}, SpecError, r"the request: lora: .*needs an even rank"
    ),
    "model unknown": ({"models": ["MiniLM-L9"]}, UnknownNameError, "did you mean 'MiniLM-L"),
    "dataset unknown": ({"datasets": ["icwsm-films"]}, UnknownNameError, "unknown dataset 'icwsm-films'"),
    "protocol unknown": ({"protocol": "quik"}, UnknownNameError, "did you mean 'quick'"),
    "band without a class": ({"neutral_band": 3.9}, DataError, r"no example of class .*neutral_band 3.9"),
    "fp16 on a CPU": ({"train": {"precision": "fp16"}}, SpecError, r"'fp16' on the CPU; allowed there are fp32 and bf16"),
    "CUDA where there is none": ({"device": "cuda"}, PrerequisiteError, "device cuda: .*choose auto or cpu"),
    "Apple's GPU where there is none": ({"device": "mps"}, PrerequisiteError, "device mps: .*choose auto or cpu"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNRESOLVABLE)
def test_what_cannot_run_is_found_before_anything_runs(case):
    changes, error, message = UNRESOLVABLE[case]
    with pytest.raises(error, match=message):
        resolved(**changes)


def test_bf16_is_never_used_on_apples_gpu():
    with pytest.raises(SpecError, match=r"'bf16' on Apple's GPU; allowed there is fp32"):
        resolved(APPLE, train={"precision": "bf16"})


@pytest.mark.parametrize(("machine", "precision"), [(CPU, "fp32"), (CUDA, "fp16"), (APPLE, "fp32")])
def test_automatic_precision_is_fp16_on_cuda_only(machine, precision):
    assert resolved(machine)[1].fit.train.precision == precision


def test_the_baseline_that_defines_zero_is_always_trained_and_only_once():
    assert [t.fit.model.name for t in resolved()] == [BASELINE_OF_SCORE, "MiniLM-L6"]
    assert [t.fit.model.name for t in resolved(models=["vader", BASELINE_OF_SCORE])] == ["vader", BASELINE_OF_SCORE]


def test_every_model_meets_every_data_set_and_seed():
    trials = resolved(models=["vader", BASELINE_OF_SCORE], datasets=["icwsm-tweets", "icwsm-movie"], seeds=(4, 7))
    assert [t.label for t in trials] == [
        f"{model} · {dataset} · seed {seed}"
        for dataset in ("icwsm-tweets", "icwsm-movie")
        for model in ("vader", BASELINE_OF_SCORE)
        for seed in (4, 7)
    ]
    assert len({t.fit.fit_id for t in trials}) == 8


def test_baselines_are_measured_on_the_cpu_and_encoders_where_they_are_fitted():
    baseline, encoder = resolved(CUDA)
    assert (baseline.measure.device, encoder.measure.device) == ("cpu", "cuda")
    assert (baseline.measure.form, encoder.measure.form) == ("native", "merged")
    assert baseline.measure.perf_key != encoder.measure.perf_key


def ids(trial):
    fit = trial.fit
    return (fit.config_id, fit.fit_id, trial.evaluate.evaluation_id, trial.measure.measurement_id)


def overlaid(**parts):
    """The packaged catalogue with these values, as an overlay would give them."""
    changed = {}
    for name, values in parts.items():
        part = getattr(PACKAGED, name)
        old = {k: v.model_dump() for k, v in part.items()} if isinstance(part, dict) else part.model_dump()
        types = {k: type(v) for k, v in part.items()} if isinstance(part, dict) else type(part)
        new = merge(old, values)
        changed[name] = (
            {k: types[k].model_validate(v) for k, v in new.items()}
            if isinstance(part, dict)
            else types.model_validate(new)
        )
    return dataclasses.replace(PACKAGED, **changed)


def test_the_same_spec_always_resolves_to_the_same_trials_and_ids():
    first, second = resolved(), resolved(catalogue=load_catalogue())
    assert first == second
    assert [ids(t) for t in first] == [ids(t) for t in second]
    assert all(len(set(ids(t))) == 4 for t in first)


SAME, NEW = True, False
CHANGES = {
    # what changes: (spec, catalogue, machine), then whether config, fit, evaluation and measurement id stay the same
    "the seed": ({"seeds": (1,)}, {}, CPU, (SAME, NEW, NEW, NEW)),
    "the prediction's batch size": ({}, {"evaluation": {"prediction_batch_size": 7}}, CPU, (SAME, SAME, SAME, SAME)),
    "the licence shown": (
        {}, {"models": {"MiniLM-L6": {"licence": "none", "description": "d", "caveat": "c"}}}, CPU, (SAME,) * 4
    ),
    "the dataset's citation": ({}, {"datasets": {"icwsm-movie": {"citation": "c"}}}, CPU, (SAME,) * 4),
    "another model's entry": ({}, {"models": {"MiniLM-L3": {"train": {"epochs": 9}}}}, CPU, (SAME,) * 4),
    "a value given as it is": ({"train": {"weight_decay": 0.01}}, {}, CPU, (SAME,) * 4),
    "the protocol": ({"protocol": "quick"}, {}, CPU, (SAME, SAME, SAME, NEW)),
    "the machine": ({}, {}, dataclasses.replace(CPU, cpu="Other"), (SAME, SAME, SAME, NEW)),
    "epochs that are not extended": ({"train": {"epochs": 2}}, {}, CPU, (NEW,) * 4),
    "the learning rate": ({"train": {"learning_rate": 3e-3}}, {}, CPU, (NEW,) * 4),
    "the LoRA targets": ({"lora": {"target_modules": ["query"]}}, {}, CPU, (NEW,) * 4),
    "the family's modules": ({}, {"families": {"bert": {"attention": ["query"]}}}, CPU, (NEW,) * 4),
    "the size of the training split": ({"max_train_examples": 100}, {}, CPU, (NEW,) * 4),
    "the size of the validation split": ({"max_validation_examples": 100}, {}, CPU, (NEW,) * 4),
    "the neutral band": ({"neutral_band": 1.0}, {}, CPU, (NEW,) * 4),
    "the cut": ({}, {"training": {"text": {"max_length": 64}}}, CPU, (NEW,) * 4),
    "the depth": ({}, {"models": {"MiniLM-L6": {"num_hidden_layers": 5}}}, CPU, (NEW,) * 4),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_an_id_changes_with_what_determines_it_and_with_nothing_else(case):
    changes, parts, machine, same = CHANGES[case]
    (_, before), (_, after) = resolved(), resolved(machine, overlaid(**parts), **changes)
    assert tuple(a == b for a, b in zip(ids(before), ids(after), strict=True)) == same


def test_weights_have_the_same_ids_whichever_folder_they_are_in(tmp_path):
    seen = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"toy weights")
        (folder / "tokenizer.json").write_text("{}")
        (folder / "config.json").write_text("{}")
        source = {"package": None, "folder": None, "sha256": None, "path": str(folder)}
        seen.append(ids(resolved(catalogue=overlaid(models={"MiniLM-L6": {"source": source}}))[1]))
    assert seen[0] == seen[1]
    for file in ("tokenizer.json", "config.json"):
        (folder / file).write_text("{ }")
        changed = ids(resolved(catalogue=overlaid(models={"MiniLM-L6": {"source": source}}))[1])
        assert not set(seen[0]) & set(changed), file
        (folder / file).write_text("{}")


@pytest.mark.parametrize("model", ["majority", "vader", BASELINE_OF_SCORE, "MiniLM-L6-probe", "MiniLM-L6"])
def test_a_trial_sent_as_json_arrives_as_it_was_with_the_same_ids(model):
    trial = resolved(models=[model])[-1]
    arrived = TrialSpec.model_validate_json(trial.model_dump_json())
    assert arrived == trial
    assert ids(arrived) == ids(trial)
    with pytest.raises(ValueError, match="extra"):
        TrialSpec.model_validate({**trial.model_dump(), "extra": 1})
