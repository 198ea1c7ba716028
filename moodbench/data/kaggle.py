"""Locate a file of a Kaggle dataset in kagglehub's cache, downloading the dataset if necessary."""

from __future__ import annotations

import os
from pathlib import Path

from moodbench.config.schema import FileSource
from moodbench.errors import DataError, PrerequisiteError

_TRUE = ("1", "true", "yes", "on")


def offline() -> bool:
    """Return whether the environment variables of the Hugging Face libraries request offline mode."""
    return any(os.environ.get(name, "").lower() in _TRUE for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))


def kaggle_file(source: FileSource) -> Path:
    """Return the path of the file of `source`; download the dataset if it is not cached and the network is allowed.

    Uses the newest complete version in the cache, unless `source.version` is given.
    Raises: PrerequisiteError, which says what is missing and how to get it; DataError if the dataset has no such file.
    """
    assert source.kaggle is not None
    folder = _cached(source.kaggle, source.version) or _downloaded(source.kaggle, source.version)
    path = folder / source.path
    if not path.is_file():
        there = ", ".join(sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())[:10])
        raise DataError(f"Kaggle dataset {source.kaggle}: no file {source.path!r}; it has {there or 'no files'}")
    return path


def _handle(kaggle: str, version: int | None) -> str:
    return kaggle if version is None else f"{kaggle}/versions/{version}"


def _cached(kaggle: str, version: int | None) -> Path | None:
    """Return the folder of the given version, or of the newest one; only complete downloads count."""
    from kagglehub.cache import Cache
    from kagglehub.config import get_cache_folder
    from kagglehub.handle import parse_dataset_handle

    found = Path(get_cache_folder()) / "datasets" / kaggle / "versions"
    there = sorted((int(p.name) for p in found.glob("*") if p.name.isdigit()), reverse=True)
    for number in there if version is None else [version]:
        if path := Cache().load_from_cache(parse_dataset_handle(_handle(kaggle, number))):
            return Path(path)
    return None


def _downloaded(kaggle: str, version: int | None) -> Path:
    import kagglehub
    import requests
    from kagglehub.config import get_cache_folder
    from kagglehub.exceptions import (
        BackendError,
        CredentialError,
        DataCorruptionError,
        KaggleApiHTTPError,
        NotFoundError,
        UnauthenticatedError,
    )

    handle = _handle(kaggle, version)
    remedy = (
        f"download it where there is a network (`kagglehub.dataset_download({handle!r})`, or the page "
        f"https://www.kaggle.com/datasets/{kaggle}), and copy the folder to {get_cache_folder()} "
        "(KAGGLEHUB_CACHE moves it); or take the file itself with `moodbench run --data FILE`"
    )
    if offline():
        raise PrerequisiteError(f"Kaggle dataset {handle} is not in the cache and the network is off; {remedy}")
    try:
        return Path(kagglehub.dataset_download(handle))
    except (KaggleApiHTTPError, NotFoundError, UnauthenticatedError, CredentialError) as error:
        told = str(error).splitlines()[0]
        raise PrerequisiteError(
            f"Kaggle dataset {handle}: Kaggle refuses it ({told}); check its name, and your token in "
            f"~/.kaggle (https://www.kaggle.com/settings); {remedy}"
        ) from error
    except (requests.exceptions.RequestException, BackendError, DataCorruptionError, OSError, ValueError) as error:
        raise PrerequisiteError(
            f"Kaggle dataset {handle} cannot be downloaded ({type(error).__name__}); {remedy}"
        ) from error
