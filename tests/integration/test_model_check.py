"""Models whose files do not suit each other, the recipe or the dataset: each works, or is refused before anything runs."""

import json
import shutil

import pytest
from tiny_models import save_checkpoint

from moodbench.benchmark import preflight
from moodbench.benchmark.context import RunContext
from moodbench.benchmark.resolve import resolve
from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.errors import PrerequisiteError
from moodbench.hardware import Hardware
from moodbench.models.base import load_classifier
from moodbench.models.check import check_model
from moodbench.models.tokenizer import load_tokenizer
from moodbench.spec import BenchmarkSpec
from moodbench.store import Store

pytestmark = pytest.mark.integration
CPU = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with a tiny model, made once for each set of arguments."""
    folders = {}

    def make(model_type="bert", **more):
        key = json.dumps([model_type, more], sort_keys=True)
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("model")
            save_checkpoint(folders[key], model_type, **{"decoder": False} | more)
        return folders[key]

    return make


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made(), tmp_path / "model")


def changed(path, **changes):
    """Change values of a JSON file; None removes them."""
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def fit_of(folder, **more):
    spec = BenchmarkSpec(models=(str(folder),), datasets=("icwsm-tweets",), **more)
    return resolve(spec, load_catalogue(), CPU, with_baseline=False)[0].fit


def tensors_of(folder):
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def keep_tensors(folder, chosen):
    from safetensors.numpy import save_file

    kept = {name: tensor for name, tensor in tensors_of(folder).items() if chosen(name)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def without_special_tokens(folder):
    names = [f"{kind}_token" for kind in ("pad", "unk", "cls", "sep", "mask")]
    changed(folder / "tokenizer_config.json", **dict.fromkeys(names))


def with_tokenizer_model(folder, **changes):
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"] |= changes
    path.write_text(json.dumps(values))


def larger_vocabulary(folder):
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    with_tokenizer_model(folder, vocab=vocabulary | {f"more{i}": 40 + i for i in range(5)})


REFUSED = {
    "cut weights": (cut, r"model.safetensors has [\d,]+ bytes, its header says [\d,]+; get the file again"),
    "a pointer of Git LFS": (
        lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
        r"is not a safetensors file \(it is a pointer of Git LFS",
    ),
    "an error page": (
        lambda folder: (folder / "model.safetensors").write_text("<html>404</html>"), r"is not a safetensors file; get"
    ),
    "an empty file": (lambda folder: (folder / "model.safetensors").write_bytes(b""), r"is not a safetensors file; get"),
    "a layer that is not there": (
        lambda folder: keep_tensors(folder, lambda name: ".layer.1." not in name),
        r"the weights lack \d+ tensors of the layers that config.json says, such as \S*layer.1",
    ),
    "embeddings that are not there": (
        lambda folder: keep_tensors(folder, lambda name: "word_embeddings" not in name), r"lack 1 tensors .*word_embeddings"
    ),
    "more layers in the configuration": (
        lambda folder: changed(folder / "config.json", num_hidden_layers=4), r"the weights lack \d+ tensors"
    ),
    "another width in the configuration": (
        lambda folder: changed(folder / "config.json", intermediate_size=48), r"do not have the shapes that config.json says"
    ),
    "a larger vocabulary": (larger_vocabulary, r"has token 'more4' with id 44, its embeddings have 32 rows"),
    "no special token": (without_special_tokens, r"its tokenizer has no pad_token, nor one of eos_token"),
    "no token for unknown words": (
        lambda folder: with_tokenizer_model(folder, unk_token="[NOT THERE]"),
        r"its tokenizer has no token for unknown words \('\[NOT THERE\]'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_a_model_that_cannot_work_is_refused_with_what_is_wrong(folder, fault):
    damage, message = REFUSED[fault]
    damage(folder)
    with pytest.raises(PrerequisiteError, match=message):
        check_model(fit_of(folder))


def test_an_adapter_is_refused_with_its_base(folder):
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/base"}))
    told = r"holds an adapter \(adapter_config.json\) of the base model owner/base, not a model"
    with pytest.raises(PrerequisiteError, match=told):
        fit_of(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "its header says"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be loaded by transformers"),
        (lambda folder: changed(folder / "config.json", num_attention_heads=5), "cannot be loaded by transformers"),
    ],
)
def test_the_command_ends_with_2_before_anything_is_written(folder, tmp_path, capsys, damage, message):
    damage(folder)
    store = tmp_path / "store"
    command = ["run", "--models", folder, "--datasets", "icwsm-tweets", "--executor", "inline", "--store", store]
    with pytest.raises(SystemExit) as ended:
        main([str(part) for part in command])
    assert ended.value.code == 2 and not (store / "fits").exists()
    told = " ".join(capsys.readouterr().err.split())
    assert message in told and "Traceback" not in told


def classifier(made, tmp_path, labels, **more):
    """A folder with a model that was fine-tuned for `labels` before."""
    names = {str(i): label for i, label in enumerate(labels)}
    found = made(auto="AutoModelForSequenceClassification", num_labels=len(labels), **more)
    target = shutil.copytree(found, tmp_path / "model")
    changed(target / "config.json", id2label=names, label2id={label: int(i) for i, label in names.items()})
    return target


def head_of(folder):
    base = load_classifier(fit_of(folder, head="classification"), 0)
    return base, base.model.classifier.weight.detach().numpy()


@pytest.mark.parametrize("labels", [("positive", "negative"), ("LABEL_0", "LABEL_1"), ("a", "b", "c"), ("score",)])
def test_a_head_for_other_classes_is_replaced_and_that_is_said(made, tmp_path, labels):
    folder = classifier(made, tmp_path, labels)
    (note,) = check_model(fit_of(folder))
    assert f"(classes {', '.join(labels).lower()}) is replaced by a new one for negative, positive" in note
    base, head = head_of(folder)
    before = tensors_of(folder)["classifier.weight"]
    assert base.new_modules == ("classifier",) and head.shape == (2, 32)
    assert not (before.shape == head.shape and (before == head).all())
    assert (head == head_of(folder)[1]).all(), "of the same seed"


def test_a_head_for_the_same_classes_is_kept(made, tmp_path):
    folder = classifier(made, tmp_path, ("Negative", "POSITIVE"))
    assert check_model(fit_of(folder)) == ()
    base, head = head_of(folder)
    assert base.new_modules == () and (head == tensors_of(folder)["classifier.weight"]).all()


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_another_problem_type_does_not_change_the_loss(made, tmp_path, kind):
    import torch

    folder = classifier(made, tmp_path, ("negative", "positive"))
    changed(folder / "config.json", problem_type=kind)
    model = load_classifier(fit_of(folder), 0).model.eval()
    inputs, labels = torch.tensor([[2, 5, 3], [2, 4, 3]]), torch.tensor([1, 0])
    found = model(input_ids=inputs, labels=labels)
    assert found.loss.item() == pytest.approx(torch.nn.functional.cross_entropy(found.logits, labels).item())


@pytest.mark.parametrize(("model_type", "positions"), [("bert", 64), ("roberta", 63), ("gpt2", 64)])
def test_texts_are_cut_to_the_positions_of_the_configuration(made, tmp_path, model_type, positions):
    import torch

    folder = shutil.copytree(made(model_type, decoder=model_type == "gpt2"), tmp_path / "model")
    changed(folder / "tokenizer_config.json", model_max_length=None)
    fit = fit_of(folder, head="classification")
    assert fit.text.max_length > positions
    check_model(fit)
    tokenizer = load_tokenizer(fit, folder)
    assert tokenizer.limit == positions
    encoded = tokenizer.encode(["good " * 500])
    assert len(encoded.inputs[0]) == positions and encoded.truncated.tolist() == [True]
    base = load_classifier(fit, 0).model.eval()
    base.config.pad_token_id = tokenizer.pad_id
    with torch.inference_mode():
        assert base(**tokenizer.pad(encoded.inputs)).logits.shape == (1, 2)
    tokenizer.hf.save_pretrained(tmp_path / "artifact" / "tokenizer")
    assert load_tokenizer(fit, tmp_path / "artifact" / "tokenizer").limit == positions, "without a config.json"


def test_a_model_without_a_padding_token_takes_another(folder):
    changed(folder / "tokenizer_config.json", pad_token=None)
    fit = fit_of(folder)
    check_model(fit)
    assert load_tokenizer(fit, folder).pad_id == 1, "[UNK], as there is no end-of-text token"


def test_an_answer_is_kept_until_a_file_changes(made, tmp_path, monkeypatch):
    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    folder = classifier(made, tmp_path, ("positive", "negative"))
    context = RunContext(Store.open(tmp_path / "store"), load_catalogue(), CPU)
    spec = BenchmarkSpec(models=(str(folder), "vader"), datasets=("icwsm-tweets",), seeds=(0, 1))
    fits = [trial.fit for trial in context.resolve(spec)]
    (note,) = preflight.check_models(fits)
    with monkeypatch.context() as patch:
        patch.setattr(preflight.subprocess, "run", lambda *_, **__: pytest.fail("asked again"))
        assert preflight.check_models(fits) == [note]
    larger_vocabulary(folder)
    with pytest.raises(PrerequisiteError, match="its embeddings have 32 rows"):
        preflight.check_models(trial.fit for trial in context.resolve(spec))
