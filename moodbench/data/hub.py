"""A memory-mapped dataset of the Hugging Face hub: labels as codes, and texts loaded on request."""

from __future__ import annotations

import logging
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moodbench.config.schema import HubSource
from moodbench.data.labelling import SPLIT_NAMES
from moodbench.data.labels import is_missing, label_text, spellings
from moodbench.errors import DataError, PrerequisiteError, nearest
from moodbench.hub import (
    Repository,
    first_line,
    hub_cache_folder,
    hub_errors,
    no_network,
    offline,
    reason_of,
    refusal_of_wrong,
    remove_from_cache,
    retried,
    wrong_files,
)
from moodbench.paths import cache_folder

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

_log = logging.getLogger(__name__)


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


def commit_of(source: HubSource) -> str:
    """Return the commit of the revision of `source`, from the hub or, if it gives no answer, from the caches.

    Raises: PrerequisiteError if the commit cannot be determined.
    """
    if source.revision and re.fullmatch("[0-9a-f]{40}", source.revision):
        return source.revision
    from huggingface_hub import constants
    from huggingface_hub.errors import RevisionNotFoundError

    reference = source.revision or constants.DEFAULT_REVISION
    noted = cache_folder() / "commits" / hub_cache_folder(source.id, "dataset").name / reference
    cached = _cached_commit(source, reference, noted)
    try:
        commit = _queried_commit(source, reference) if cached else retried(lambda: _queried_commit(source, reference))
    except hub_errors() as error:
        reason = reason_of(error, _repository(source))
        if cached is None or isinstance(error, RevisionNotFoundError):
            raise PrerequisiteError(f"dataset {source.id}: {reason}") from error
        if not offline():
            _log.warning("dataset %s: the cached commit %s is used, as %s", source.id, cached[:12], reason)
        return cached
    with suppress(OSError):  # Only needed later, without a network.
        noted.parent.mkdir(parents=True, exist_ok=True)
        noted.write_text(commit)
    return commit


def _queried_commit(source: HubSource, reference: str) -> str:
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(source.id, revision=reference).sha)


def _cached_commit(source: HubSource, reference: str, noted: Path) -> str | None:
    folder = hub_cache_folder(source.id, "dataset")
    for path in (noted, folder / "refs" / reference):
        if path.is_file():
            return path.read_text().strip()
    snapshots = [p.name for p in (folder / "snapshots").glob("*")]
    return snapshots[0] if len(snapshots) == 1 else None


def open_hub(source: HubSource, commit: str) -> HubData:
    """Return the splits of `source` at `commit`, downloaded into the caches of the hub's libraries unless cached.

    A downloaded file that differs from the digest that the hub states is removed and downloaded again once.

    Raises: PrerequisiteError (missing, gated, no network, damaged download) or DataError (no such configuration, split
    or column; a dataset that needs a loading script).
    """
    data = _checked(source, commit)
    return HubData(
        {ours: _split(source, ours, data[theirs]) for ours, theirs in _named_splits(source, list(data)).items()},
        commit,
        {name: len(split) for name, split in data.items()},
    )


def _checked(source: HubSource, commit: str) -> DatasetDict:
    """Return the splits, made from files that all have the digest that the hub states."""
    from datasets.exceptions import DatasetGenerationError

    folder = hub_cache_folder(source.id, "dataset") / "snapshots" / commit
    unreadable: DatasetGenerationError | None = None
    for _ in range(2):
        try:
            data = _load(source, commit)
        except DatasetGenerationError as error:
            unreadable = error
        else:
            unreadable = None
        wrong = wrong_files(sorted(folder.rglob("*")))
        if not wrong and unreadable is None:
            return data
        if not wrong or offline():
            break
        remove_from_cache(wrong)
        _remove_made(source, commit)
    if wrong:
        files = f"dataset {source.id}: {', '.join(str(path.relative_to(folder)) for path in wrong)}"
        raise refusal_of_wrong(files, folder, "`moodbench catalogue fetch` with this dataset")
    assert unreadable is not None
    cause = unreadable.__cause__ or unreadable
    raise PrerequisiteError(
        f"dataset {source.id} at {commit[:12]}: a downloaded file cannot be read ({type(cause).__name__}: "
        f"{first_line(cause)}), though it is as the hub has it; choose another revision"
    ) from unreadable


def _load(source: HubSource, commit: str) -> DatasetDict:
    """Return the splits from the hub or, if it gives no answer, from the cache of `datasets`."""
    failures = _connection_errors()
    not_cached: tuple[type[Exception], ...] = (*failures, PrerequisiteError)
    refusals: tuple[type[Exception], ...] = (*failures, *hub_errors())
    try:
        return _loaded(source, commit)
    except failures as error:
        failure: Exception = error
    try:
        with no_network():
            return _loaded(source, commit)
    except not_cached:
        if offline():
            raise PrerequisiteError(f"dataset {source.id}: {reason_of(failure, _repository(source))}") from failure
    try:  # What `datasets` raises does not say why, so the hub is asked; then it may have recovered.
        retried(lambda: _queried_commit(source, commit))
        return _loaded(source, commit)
    except refusals as error:
        raise PrerequisiteError(f"dataset {source.id}: {reason_of(error, _repository(source))}") from error


def _connection_errors() -> tuple[type[Exception], ...]:
    """Return what `datasets` raises if the hub refuses, fails, or cannot be reached."""
    import httpx2
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    return (DatasetNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, httpx2.TransportError, ConnectionError)


def _loaded(source: HubSource, commit: str) -> DatasetDict:
    from datasets import config, load_dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    config.HF_HUB_OFFLINE = config.HF_DATASETS_OFFLINE = offline()  # read only at its import
    with _explained(source):
        data = load_dataset(source.id, source.config, revision=commit)
    cached = {Path(file["filename"]).parent.name for split in data.values() for file in split.cache_files}
    if cached and commit not in cached:
        raise PrerequisiteError(
            f"dataset {source.id}: the cache has commit {', '.join(sorted(cached))}, but {commit} is needed and the "
            f"hub gives no answer; {_repository(source).needed}"
        )
    return data


@contextmanager
def _explained(source: HubSource) -> Iterator[None]:
    """Translate what `datasets` raises if the repository itself cannot be used; failures of the hub pass."""
    from datasets.exceptions import DataFilesNotFoundError

    try:
        yield
    except _connection_errors():
        raise
    except RuntimeError as error:
        if "script" not in str(error):
            raise
        raise DataError(
            f"dataset {source.id}: is built by a script, and scripts are never run; use a repository with Parquet, "
            "CSV or JSON files, or try `revision: refs/convert/parquet`"
        ) from error
    except DataFilesNotFoundError as error:
        raise DataError(
            f"dataset {source.id}: has no Parquet, CSV or JSON files ({first_line(error)}); choose another repository "
            "or revision"
        ) from error
    except OSError as error:
        raise PrerequisiteError(f"dataset {source.id}: {reason_of(error, _repository(source))}") from error
    except ValueError as error:
        if "BuilderConfig" in str(error) or "config" in str(error).lower():
            raise DataError(f"dataset {source.id}: configuration {source.config!r}: {first_line(error)}") from error
        raise


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
    codes, names = _coded(encoded, source)
    return HubSplit(table, codes, names, source.text_columns)


def _coded(encoded: Any, source: HubSource) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Return codes and names of a dictionary-encoded column.

    Labels with the same text (4 and 4.0), or that differ only in case, are merged; null, N/A and the like, and -1,
    which marks hidden labels, get code -1.
    """
    import pyarrow.compute as pc

    texts = [label_text(value) for value in encoded.dictionary.to_pylist()]
    indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    counts: Counter[str] = Counter()
    for text, count in zip(texts, np.bincount(indices[indices >= 0], minlength=len(texts)).tolist(), strict=True):
        if text is not None and text != "-1" and not is_missing(text, source):
            counts[text] += count
    one = spellings(counts)
    names = tuple(dict.fromkeys(one[t] for t in texts if t in one))
    place = np.array([names.index(one[t]) if t in one else -1 for t in texts] or [-1], dtype=np.int32)
    return np.where(indices < 0, -1, place[indices]).astype(np.int32), names


def _remove_made(source: HubSource, commit: str) -> None:
    """Remove the Arrow files that `datasets` generated from the files of `commit`."""
    from datasets import config

    owner, _, name = source.id.rpartition("/")
    pattern = f"{owner}___*" if owner else name
    for folder in Path(config.HF_DATASETS_CACHE).glob(f"{pattern}/*/*/{commit}"):
        shutil.rmtree(folder, ignore_errors=True)


def _repository(source: HubSource) -> Repository:
    config = f", configuration {source.config!r}" if source.config else ""
    wanted = ", ".join(dict.fromkeys(source.splits.values())) or "train, validation, test"
    needed = (
        f"needed are README.md and the data files of the splits {wanted}{config}; where there is a network run "
        "`moodbench catalogue fetch` with this dataset, and copy its cache (HF_HOME) here, or set HF_ENDPOINT to a "
        "mirror"
    )
    return Repository("dataset", source.id, source.revision, needed)
