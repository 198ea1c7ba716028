"""A model's files of JSON that hold something odd: the commands end with 2 and one sentence that names the model."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.tune.request import narrowest

pytestmark = pytest.mark.integration
CONFIG = {
    "model_type": "llama", "vocab_size": 100, "num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 128,
}  # fmt: skip
ODD_SIZES = ("64", [64], {"text": 64}, 64.5, True, -64)


@pytest.fixture
def folder(tmp_path):
    """The files of a model that nothing loads: the tests end before."""
    found = tmp_path / "odd"
    found.mkdir()
    (found / "config.json").write_text(json.dumps(CONFIG))
    (found / "tokenizer.json").write_text("{}")
    save_file({"weight": np.zeros(2, np.float32)}, found / "model.safetensors")
    return found


def refusal(folder, capsys, command="run"):
    """Return what a command says that refuses the model."""
    store = folder.parent / "store"
    asked = {
        "run": ["run", "--models", folder, "--datasets", "icwsm-tweets", "--executor", "inline"],
        "tune": ["tune", "--model", folder, "--dataset", "icwsm-tweets", "--trials", "2"],
    }
    with pytest.raises(SystemExit) as ended:
        main([str(part) for part in (*asked[command], "--device", "cpu", "--store", store)])
    told = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2, told
    assert "error of MoodBench" not in told and "Traceback" not in told
    assert not (store / "fits").exists() and not (store / "searches").exists()
    return told


@pytest.mark.parametrize("command", ["run", "tune"])
@pytest.mark.parametrize("name", [name for name in CONFIG if name != "model_type"])
def test_a_size_that_is_no_number_is_refused(folder, capsys, command, name):
    odd = ODD_SIZES[list(CONFIG).index(name) - 1]
    (folder / "config.json").write_text(json.dumps(CONFIG | {name: odd}))
    told = refusal(folder, capsys, command)
    assert f"{name} is {str(odd)!r}" in told and "a whole number above 0" in told


@pytest.mark.parametrize("odd", ODD_SIZES)
def test_the_width_of_a_search_is_taken_from_numbers_only(odd):
    family = load_catalogue().families["llama"]
    assert narrowest(CONFIG, family) == 2 * 256 // 4
    assert narrowest(CONFIG | {"hidden_size": odd}, family) is None
    assert narrowest(CONFIG | {"num_key_value_heads": odd}, family) == 256


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b'"llama"', b"\xff\xfe", b"[" * 100_000])
def test_a_config_that_is_no_object_is_refused(folder, capsys, text):
    (folder / "config.json").write_bytes(text)
    assert "config.json cannot be read as JSON" in refusal(folder, capsys)


@pytest.mark.parametrize("odd", [["llama"], {"llama": 1}, 5, None])
@pytest.mark.parametrize("more", [{}, {"auto_map": {"AutoModel": "own.Model"}}, {"auto_map": 5}])
def test_a_model_type_that_is_no_name_is_refused(folder, capsys, odd, more):
    (folder / "config.json").write_text(json.dumps(CONFIG | {"model_type": odd} | more))
    told = refusal(folder, capsys)
    assert "requires custom code" in told if isinstance(more.get("auto_map"), dict) else "has no model_type" in told


def test_an_index_that_names_no_files_is_refused(folder, capsys):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": ["a.safetensors"]}')
    assert "names no files of weights" in refusal(folder, capsys)


@pytest.mark.parametrize("classes", [5, {"a": 1}, "LlamaForCausalLM", None])
def test_a_list_of_classes_that_is_none_names_no_language_model(folder, capsys, classes):
    (folder / "config.json").write_text(json.dumps(CONFIG | {"architectures": classes, "hidden_size": "wide"}))
    assert "hidden_size is 'wide'" in refusal(folder, capsys)


TOKENIZERS = {
    "tokenizer.json": ("{}", "[]", "<html>404</html>", '{"model": {"type": "Other"}}'),
    "tokenizer_config.json": ("[]", "{"),
}


@pytest.mark.parametrize(("file", "text"), [(file, text) for file, texts in TOKENIZERS.items() for text in texts])
def test_a_language_model_with_a_damaged_tokenizer_is_refused(folder, capsys, file, text):
    (folder / "config.json").write_text(json.dumps(CONFIG | {"architectures": ["LlamaForCausalLM"]}))
    if file != "tokenizer.json":
        import tokenizers

        tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, "[UNK]")).save(str(folder / "tokenizer.json"))
    (folder / file).write_text(text)
    told = refusal(folder, capsys)
    assert f"its tokenizer in {folder} cannot be loaded" in told and "get its files again" in told


@pytest.mark.parametrize("odd", ["wide", [64], {}])
def test_an_architecture_that_only_transformers_knows_is_refused_with_an_odd_size(folder, capsys, odd):
    config = {"model_type": "xlm", "vocab_size": 100, "n_layers": 2, "n_heads": 4, "emb_dim": odd}
    (folder / "config.json").write_text(json.dumps(config))
    assert "transformers cannot make a text classifier of model type 'xlm'" in refusal(folder, capsys)
