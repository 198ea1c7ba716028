"""Conversion of a GGUF file to a transformers folder in fp32, done once and cached."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moodbench.errors import PrerequisiteError
from moodbench.paths import cache_folder

CONVERSION_VERSION = 1
"""Incremented by hand when a change of the conversion may change weights, configuration or tokens."""
WRITTEN = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
"""Files of a complete conversion."""
SIZES_IN_HEADER = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
}
"""Name of a size in config.json -> its key in a GGUF header, after the architecture."""
DIGITS_ALONE = frozenset({"smollm"})
"""Pre-tokenizers (`tokenizer.ggml.pre`) that split off each digit before GPT-2's rules, unknown to transformers.

Source: llama.cpp, `LLAMA_VOCAB_PRE_TYPE_SMOLLM` in src/llama-vocab.cpp.
"""
_ABANDONED_S = 3600.0
"""Age in seconds above which a temporary folder counts as left by a killed conversion and is deleted."""


def converted_folder(sha256: str) -> Path:
    """Return the cache folder for the conversion of the GGUF file with this digest, whether it exists or not."""
    return cache_folder() / "gguf" / f"{sha256[:16]}-v{CONVERSION_VERSION}"


def conversion_digest(sha256: str) -> str:
    """Return the digest of what is converted from the GGUF file with this digest, the same on every node."""
    return hashlib.sha256(f"{sha256} v{CONVERSION_VERSION}".encode()).hexdigest()


def is_converted(folder: Path) -> bool:
    """Return whether `folder` has all files of a conversion."""
    return all((folder / file).is_file() for file in WRITTEN)


def converted(name: str, file: Path, sha256: str) -> Path:
    """Return the converted folder of GGUF `file`, whose digest is `sha256`; convert it if it is not cached.

    Concurrent processes wait for a single conversion. On file systems without locks each converts, and all use the
    result of the first to finish.

    Raises: PrerequisiteError if the file is damaged or transformers cannot read all of it.
    """
    folder = converted_folder(sha256)
    if is_converted(folder):
        return folder
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not is_converted(folder):
            _delete_abandoned(folder)
            _publish(name, file, folder)
    return folder


def _publish(name: str, file: Path, folder: Path) -> None:
    """Convert `file` in a temporary folder and rename it to `folder`."""
    staged = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        made = staged / "made"  # not `staged` itself, which mkdtemp makes inaccessible to other users
        made.mkdir()
        _convert(name, file, staged, made)
        for path in made.iterdir():
            shutil.copymode(made / "config.json", path)  # safetensors makes its file inaccessible to other users
            with path.open("rb") as written:
                os.fsync(written.fileno())
        if folder.exists() and not is_converted(folder):
            folder.rename(staged / "damaged")
        try:
            made.rename(folder)
        except OSError:
            if not is_converted(folder):  # otherwise another process was faster
                raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _delete_abandoned(folder: Path) -> None:
    for path in folder.parent.glob(f"{folder.name}.*.part"):
        if time.time() - path.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(path, ignore_errors=True)


def _convert(name: str, file: Path, source: Path, folder: Path) -> None:
    """Write the model and tokenizer of `file` to `folder`; `source` is a scratch folder for a link to `file`."""
    with _read(name, file, "; reinstall the package, or copy the file again") as (reader, architecture):
        num_values = sum(tensor.n_elements for tensor in reader.tensors)
        field = reader.get_field("tokenizer.ggml.pre")
        pre_tokenizer = str(field.contents()) if field else ""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    transformers.logging.disable_progress_bar()
    # transformers would prefer a tokenizer.json in the folder of the file.
    (source / file.name).symlink_to(file.resolve())
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            source,
            gguf_file=file.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),  # otherwise transformers cannot save the model
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file.name)
    except (ValueError, KeyError, RuntimeError) as error:
        raise PrerequisiteError(
            f"model {name}: transformers {transformers.__version__} cannot load {file} as a language model, "
            f"architecture {architecture!r} ({_first_line(error)}); give another GGUF file, or a folder with "
            "model.safetensors as `path`"
        ) from error
    num_read = sum(parameter.numel() for parameter in model.parameters())
    if info["missing_keys"] or num_read != num_values:
        raise PrerequisiteError(
            f"model {name}: {file} has {num_values:,} values, of a {architecture!r} model of {num_read:,} parameters "
            f"(not in the file: {', '.join(sorted(info['missing_keys'])[:3]) or 'none'}), so some would be left "
            "out or invented; give another GGUF file, or a folder with model.safetensors as `path`"
        )
    _save(model, tokenizer, pre_tokenizer, folder)


@contextmanager
def _read(name: str, file: Path, remedy: str = "") -> Iterator[tuple[Any, str]]:
    """Yield a reader of GGUF `file` and the architecture in its header; a damaged file raises PrerequisiteError."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
        yield reader, str(reader.fields["general.architecture"].contents())
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, StopIteration) as error:
        raise PrerequisiteError(
            f"model {name}: {file} is damaged, or no GGUF file ({_first_line(error)}){remedy}"
        ) from error


def config_in_header(name: str, file: Path) -> dict[str, Any]:
    """Return the sizes in the header of GGUF `file`, by their names in config.json.

    Raises: PrerequisiteError if the file is damaged.
    """
    with _read(name, file) as (reader, architecture):
        sizes = {
            ours: field.contents()
            for ours, theirs in SIZES_IN_HEADER.items()
            if (field := reader.get_field(f"{architecture}.{theirs}")) is not None
        }
        vocab_size = max(next(t for t in reader.tensors if t.name == "token_embd.weight").shape.tolist()[1:])
        return {"model_type": architecture, "vocab_size": vocab_size, **sizes}


def _save(model: Any, tokenizer: Any, pre_tokenizer: str, folder: Path) -> None:
    """Write plain fp32 weights, and a tokenizer that splits texts as the GGUF file specifies."""
    from tokenizers import pre_tokenizers

    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if pre_tokenizer in DIGITS_ALONE:
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        )
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
