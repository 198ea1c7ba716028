"""A memory-mapped dataset of the Hugging Face hub: labels as codes, and texts loaded on request."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from moodbench.cache import cache_folder, hub_cache_folder
from moodbench.config.schema import HubSource
from moodbench.data.labelling import SPLIT_NAMES, label_text
from moodbench.errors import DataError, PrerequisiteError, nearest

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

_TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class HubSplit:
    """One split; only its labels are in memory."""

    table: Dataset
    codes: npt.NDArray[np.int32]
    """Label of each row as an index into `names`; -1 if it is missing or hidden."""
    names: tuple[str, ...]
    text_columns: tuple[str, ...]

    def texts(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Return the texts of `rows`: their non-empty text columns, joined by newlines."""
        taken = self.table.select(rows.tolist())
        parts = [taken[column][:] for column in self.text_columns]
        return ["\n".join(p.strip() for p in cells if p and p.strip()) for cells in zip(*parts, strict=True)]


@dataclass(frozen=True)
class HubData:
    """The splits of a repository at one commit."""

    splits: dict[str, HubSplit]
    """Keyed by MoodBench's split names."""
    commit: str
    sizes: dict[str, int]
    """Split of the repository -> rows."""


def offline() -> bool:
    """Return whether the Hugging Face libraries are in offline mode (HF_HUB_OFFLINE or HF_DATASETS_OFFLINE)."""
    from huggingface_hub import constants

    return constants.is_offline_mode() or os.environ.get("HF_DATASETS_OFFLINE", "").lower() in _TRUE


@contextmanager
def no_network() -> Iterator[None]:
    """Put the Hugging Face libraries into offline mode, so that only cached files are used."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def commit_of(source: HubSource) -> str:
    """Return the commit of the revision of `source`, from the hub or, if it is unreachable, from the caches.

    Raises: PrerequisiteError if the commit cannot be determined.
    """
    if source.revision and re.fullmatch("[0-9a-f]{40}", source.revision):
        return source.revision
    import httpx2
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    reference = source.revision or constants.DEFAULT_REVISION
    noted = cache_folder() / "commits" / hub_cache_folder(source.id, "dataset").name / reference
    try:
        commit = str(HfApi().dataset_info(source.id, revision=reference).sha)
    except (OfflineModeIsEnabled, httpx2.TransportError, ConnectionError) as error:
        for path in (noted, hub_cache_folder(source.id, "dataset") / "refs" / reference):
            if path.is_file():
                return path.read_text().strip()
        snapshots = [p.name for p in (hub_cache_folder(source.id, "dataset") / "snapshots").glob("*")]
        if len(snapshots) == 1:
            return snapshots[0]
        _unreachable(source, error)
    except HfHubHTTPError as error:
        _refused(source, error)
    with suppress(OSError):  # Only needed later, without a network.
        noted.parent.mkdir(parents=True, exist_ok=True)
        noted.write_text(commit)
    return commit


def open_hub(source: HubSource, commit: str) -> HubData:
    """Return the splits of `source` at `commit`, downloaded into the caches of the hub's libraries unless cached.

    Raises: PrerequisiteError (missing, gated, no network, damaged download) or DataError (no such configuration, split
    or column; a dataset that needs a loading script).
    """
    data = _load(source, commit)
    _check_digests(source, commit)
    return HubData(
        {ours: _split(source, ours, data[theirs]) for ours, theirs in _named_splits(source, list(data)).items()},
        commit,
        {name: len(split) for name, split in data.items()},
    )


def _load(source: HubSource, commit: str) -> DatasetDict:
    import httpx2
    from datasets import config, load_dataset
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
    from datasets.utils.logging import disable_progress_bar
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    disable_progress_bar()
    config.HF_HUB_OFFLINE = config.HF_DATASETS_OFFLINE = offline()  # read only at its import
    try:
        data = load_dataset(source.id, source.config, revision=commit)
    except DatasetNotFoundError as error:
        _refused(source, error)
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, httpx2.TransportError, ConnectionError) as error:
        _unreachable(source, error)
    except HfHubHTTPError as error:
        _refused(source, error)
    except DatasetGenerationError as error:
        _check_digests(source, commit)
        cause, folder = error.__cause__ or error, hub_cache_folder(source.id, "dataset")
        raise PrerequisiteError(
            f"dataset {source.id} at {commit[:12]}: a downloaded file cannot be read "
            f"({type(cause).__name__}: {_first_line(cause)}); remove {folder} and fetch it again"
        ) from error
    except RuntimeError as error:
        if "script" not in str(error):
            raise
        raise DataError(
            f"dataset {source.id}: is built by a script, and scripts are never run; use a repository with Parquet, "
            "CSV or JSON files, or try `revision: refs/convert/parquet`"
        ) from error
    except OSError as error:
        raise PrerequisiteError(
            f"dataset {source.id}: its download failed ({_first_line(error)}); run the same command again to resume it"
        ) from error
    except ValueError as error:
        if "BuilderConfig" in str(error) or "config" in str(error).lower():
            raise DataError(f"dataset {source.id}: configuration {source.config!r}: {_first_line(error)}") from error
        raise
    cached = {Path(file["filename"]).parent.name for split in data.values() for file in split.cache_files}
    if offline() and cached and commit not in cached:
        raise PrerequisiteError(
            f"dataset {source.id}: the cache has commit {', '.join(sorted(cached))}, but {commit} is needed and the "
            f"network is off; {_remedy(source)}"
        )
    return data


def _named_splits(source: HubSource, available: Sequence[str]) -> dict[str, str]:
    """Return MoodBench's split name -> the repository's split name."""
    if not source.splits:
        usual = {SPLIT_NAMES[name]: name for name in available if name in SPLIT_NAMES}
        if "train" not in usual and len(available) == 1:
            usual = {"train": available[0]}
        if "train" not in usual:
            raise DataError(
                f"dataset {source.id}: none of its splits {', '.join(available)} is called train; name them with "
                "`splits: {train: ..., test: ...}`"
            )
        return usual
    for ours, theirs in source.splits.items():
        if theirs not in available:
            raise DataError(f"dataset {source.id}: no split {theirs!r} ({ours}); it has {', '.join(available)}")
    return {ours: theirs for ours, theirs in source.splits.items()}


def _split(source: HubSource, ours: str, table: Dataset) -> HubSplit:
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import ClassLabel

    for role, column in [("text column", c) for c in source.text_columns] + [("label column", source.label_column)]:
        if column not in table.column_names:
            near = nearest(column, table.column_names)
            hint = f"did you mean {near!r}? " if near else ""
            raise DataError(
                f"dataset {source.id}: no {role} {column!r}: {hint}its columns are {', '.join(table.column_names)}"
            )
    for column in source.text_columns:
        kind = table.features[column].dtype if hasattr(table.features[column], "dtype") else "a structure"
        if kind not in ("string", "large_string"):
            raise DataError(f"dataset {source.id}: text column {column!r} is {kind}; expected string")
    feature, cells = table.features[source.label_column], table.data.column(source.label_column)
    if isinstance(feature, ClassLabel):
        codes = pc.fill_null(cells, -1).to_numpy().astype(np.int32)
        return HubSplit(table, codes, tuple(feature.names), source.text_columns)
    kind = cells.type
    if not (pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(
            f"dataset {source.id}: label column {source.label_column!r} is {kind}; expected words or numbers"
        )
    encoded = pc.dictionary_encode(cells).combine_chunks()
    codes, names = _coded(encoded)
    return HubSplit(table, codes, names, source.text_columns)


def _coded(encoded: Any) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Return codes and names of a dictionary-encoded column.

    Labels with the same text (4 and 4.0) are merged; null and -1, which marks hidden labels, get code -1.
    """
    import pyarrow.compute as pc

    texts = [label_text(value) for value in encoded.dictionary.to_pylist()]
    names = tuple(dict.fromkeys(t for t in texts if t is not None and t != "-1"))
    place = np.array([names.index(t) if t in names else -1 for t in texts] or [-1], dtype=np.int32)
    indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return np.where(indices < 0, -1, place[indices]).astype(np.int32), names


def _check_digests(source: HubSource, commit: str) -> None:
    """Remove a downloaded file that differs from its SHA-256 on the hub, and raise PrerequisiteError."""
    for path in sorted((hub_cache_folder(source.id, "dataset") / "snapshots" / commit).rglob("*")):
        blob = path.resolve()
        if not path.is_file() or not re.fullmatch("[0-9a-f]{64}", blob.name):
            continue
        with blob.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != blob.name:
            blob.unlink()
            path.unlink(missing_ok=True)
            _remove_made(source, commit)
            raise PrerequisiteError(
                f"dataset {source.id}: the download of {path.name} has sha256 {digest}, the hub says {blob.name}; it "
                "was removed, give the same command again"
            )


def _remove_made(source: HubSource, commit: str) -> None:
    """Remove the Arrow files that `datasets` generated from the files of `commit`."""
    from datasets import config

    owner, _, name = source.id.rpartition("/")
    pattern = f"{owner}___*" if owner else name
    for folder in Path(config.HF_DATASETS_CACHE).glob(f"{pattern}/*/*/{commit}"):
        shutil.rmtree(folder, ignore_errors=True)


def _remedy(source: HubSource) -> str:
    config = f", configuration {source.config!r}" if source.config else ""
    wanted = ", ".join(dict.fromkeys(source.splits.values())) or "train, validation, test"
    return (
        f"needed are README.md and the data files of the splits {wanted}{config} of the dataset repository "
        f"{source.id} (revision {source.revision or 'main'}); where there is a network run "
        "`moodbench catalogue fetch` with this dataset, and copy its cache (HF_HOME) here, or set HF_ENDPOINT to a "
        "mirror"
    )


def _unreachable(source: HubSource, error: Exception) -> NoReturn:
    from huggingface_hub import constants

    reason = "the network is off (HF_HUB_OFFLINE)" if offline() else f"{constants.ENDPOINT} cannot be reached"
    raise PrerequisiteError(
        f"dataset {source.id} is not in the cache, and {reason} ({_first_line(error)}); {_remedy(source)}"
    ) from error


def _refused(source: HubSource, error: Exception) -> NoReturn:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    chain = (error, error.__cause__)
    if any(isinstance(e, GatedRepoError) for e in chain):
        raise PrerequisiteError(
            f"dataset {source.id}: is gated; request access at {constants.ENDPOINT}/datasets/{source.id}, then log in "
            "with `hf auth login` or set HF_TOKEN"
        ) from error
    if any(isinstance(e, RevisionNotFoundError) for e in chain):
        raise PrerequisiteError(
            f"dataset {source.id}: has no revision {source.revision!r}; name a commit, branch or tag it has, or leave "
            "`revision` out for the newest"
        ) from error
    raise PrerequisiteError(
        f"dataset {source.id}: {constants.ENDPOINT} has no such repository, or it is private "
        f"({_first_line(error)}); check the id, or log in with `hf auth login`"
    ) from error


def _first_line(error: BaseException) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= 200 else line[:197] + "..."
