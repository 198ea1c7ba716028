"""The Hugging Face hub, for models and datasets alike: cache, retries, digests, and what each of its failures means."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from moodbench.errors import PrerequisiteError, is_of_disk

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may succeed later."""
WAITS_S = (1.0, 2.0, 4.0)
"""Waits before the second and later requests if the hub asks for none; exponential back-off."""
MAX_WAIT_S = 120.0
"""Longest wait that is honoured; if the hub asks for a longer one, the failure is reported at once."""
_TRUE = ("1", "true", "yes", "on")
_SHA256, _GIT_SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")
_log = logging.getLogger(__name__)


class Repository(NamedTuple):
    """A repository of the hub, and what to do where it is neither cached nor reachable."""

    kind: Literal["model", "dataset"]
    id: str
    revision: str | None
    needed: str
    """The files that are needed and how to get them without the hub, for messages."""

    def __str__(self) -> str:
        return f"hub repository {self.id}" + (f" at revision {self.revision}" if self.revision else "")


def hub_cache_folder(repository: str, kind: Literal["model", "dataset"]) -> Path:
    """Return the folder of a repository in the cache of huggingface_hub, whether it exists or not."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"{kind}s--{repository.replace('/', '--')}"


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


def hub_errors() -> tuple[type[Exception], ...]:
    """Return what huggingface_hub raises if a repository cannot be read; hf_xet raises RuntimeError."""
    import httpx2
    from huggingface_hub.errors import EntryNotFoundError, XetDownloadError

    return (httpx2.HTTPError, EntryNotFoundError, XetDownloadError, OSError, ValueError, RuntimeError)


def retried[T](call: Callable[[], T]) -> T:
    """Return what `call` returns; after a transient failure of the hub, call it again, up to len(WAITS_S) times.

    The wait before is what the hub asks for (Retry-After in seconds or as a date, or its rate limit), else the next of
    WAITS_S. An unreachable hub, a refusal, or a wait above MAX_WAIT_S is raised at once, as is the last failure.
    """
    for wait_s in WAITS_S:
        try:
            return call()
        except hub_errors() as error:
            asked_s = asked_wait_s(error)
            if not _is_transient(error) or (asked_s or 0) > MAX_WAIT_S:
                raise
            wait_s = wait_s if asked_s is None else asked_s
            _log.warning("the hub failed (%s); the next request follows in %.0f s", first_line(error), wait_s)
            time.sleep(wait_s)
    return call()


def asked_wait_s(error: BaseException) -> float | None:
    """Return the seconds that the hub asks to wait after `error`; None if it asks for no wait."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

    response = _response(error)
    if response is None:
        return None
    value = str(response.headers.get("Retry-After") or "").strip()
    if value.isdecimal():
        return float(value)
    if value:
        with suppress(ValueError):
            date = parsedate_to_datetime(value)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)
            return max(0.0, (date - datetime.now(UTC)).total_seconds())
    limit = parse_ratelimit_headers(response.headers) if response.status_code == 429 else None
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else None


def wrong_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files of a snapshot in the hub's cache whose content differs from the digest that the hub states.

    The digest names the blob that a snapshot links to: SHA-256 for large files, git's SHA-1 for small ones. A file with
    another name, as on file systems without links, is not checked.
    """
    return [path for path in paths if path.is_file() and _digest_of(path) != path.resolve().name]


def remove_from_cache(paths: Iterable[Path]) -> None:
    """Remove the files of a snapshot, and the blobs they link to, from the hub's cache."""
    for path in paths:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def refusal_of_wrong(files: str, folder: Path, fetch: str) -> PrerequisiteError:
    """Return the error for `files` in `folder` that are wrong, also when downloaded again unless the network is off.

    `fetch` is the command that replaces them where there is a network.
    """
    if offline():
        return PrerequisiteError(
            f"{files} in {folder} differs from the digest that the hub stated; run {fetch} where there is a network, "
            "which replaces it"
        )
    return PrerequisiteError(
        f"{files} differs from the digest that the hub states, also when downloaded again; it was removed from the "
        "cache. Look for a proxy or mirror that changes files (HF_ENDPOINT), and give the same command again"
    )


def reason_of(error: BaseException, repository: Repository) -> str:
    """Return what went wrong with `repository` and what to do, from the first cause that the hub states."""
    response = _response(error)
    if is_of_disk(error):
        return f"{repository}: cannot be written to the cache of the hub ({first_line(error)}); free some space there"
    if response is not None:
        return _reason_of_answer(error, response, repository)
    if offline():
        return f"{repository} is not in the cache, and the network is off (HF_HUB_OFFLINE); {repository.needed}"
    if _is_unreachable(error) and not _is_interrupted(error):
        return (
            f"{repository} is not in the cache, and {_endpoint()} cannot be reached "
            f"({first_line(_causes(error)[-1])}); {repository.needed}"
        )
    return (
        f"{repository}: the download was interrupted ({type(error).__name__}: {first_line(error)}); rerun the command "
        "to resume"
    )


def _reason_of_answer(error: BaseException, response: Any, repository: Repository) -> str:
    """Return what an answer of the hub with an error status means for `repository`."""
    from huggingface_hub import errors

    status, causes = response.status_code, _causes(error)
    page = f"{_endpoint()}/{'datasets/' if repository.kind == 'dataset' else ''}{repository.id}"

    def is_(kind: type[Exception]) -> bool:
        return any(isinstance(each, kind) for each in causes)

    if is_(errors.GatedRepoError):
        return (
            f"{repository} is gated ({status}): accept its terms at {page}, then log in with `hf auth login` or set "
            "HF_TOKEN, and run the same command again"
        )
    if is_(errors.DisabledRepoError):
        return f"{repository} was disabled by the hub ({status}), see {page}; choose another repository"
    if is_(errors.RevisionNotFoundError):
        return (
            f"{repository}: the repository has no such revision ({status}); give a commit, branch or tag that it has, "
            "or leave `revision` out for the newest"
        )
    if is_(errors.RepositoryNotFoundError):
        return (
            f"{repository} does not exist, or is private and this machine has no access ({status}); check the id, or "
            "log in with `hf auth login`"
        )
    if status == 429:
        asked_s = asked_wait_s(error)
        wait = "a few minutes" if asked_s is None else f"{asked_s:.0f} seconds"
        return (
            f"{repository}: the hub refuses more requests for now (429, too many); run the same command again in "
            f"{wait}; with `hf auth login` the limit is higher"
        )
    return _reason_of_status(status, getattr(response, "url", ""), error, repository)


def _reason_of_status(status: int, url: object, error: BaseException, repository: Repository) -> str:
    if status == 401:
        return (
            f"{repository}: the hub does not accept the token of this machine (401), it is wrong or expired; log in "
            "again with `hf auth login`, or unset HF_TOKEN, which public repositories do not need"
        )
    if status == 403:
        return (
            f"{repository}: access is forbidden (403: {first_line(error)}); give your token the right to read it at "
            f"{_endpoint()}/settings/tokens"
        )
    if status == 404:
        path = unquote(urlsplit(str(url)).path).partition("/resolve/")[2].partition("/")[2]
        return f"{repository}: its file {path or 'list'} does not exist (404); choose another revision"
    if status in TRANSIENT:
        return (
            f"{repository} is not complete in the cache, and the hub has a fault ({status}); run the same command "
            f"again later, or elsewhere: {repository.needed}"
        )
    return f"{repository}: the hub answers with status {status} ({first_line(error)})"


def _is_transient(error: BaseException) -> bool:
    response = _response(error)
    if response is not None:
        return response.status_code in TRANSIENT
    return _is_interrupted(error)


def _is_interrupted(error: BaseException) -> bool:
    """Return whether the hub was reached, and the answer then ended early."""
    import httpx2

    interrupted = (httpx2.ReadTimeout, httpx2.ReadError, httpx2.RemoteProtocolError)
    return any(isinstance(each, interrupted) for each in _causes(error))


def _is_unreachable(error: BaseException) -> bool:
    import httpx2
    from huggingface_hub.errors import LocalEntryNotFoundError

    missing = (httpx2.TransportError, ConnectionError, LocalEntryNotFoundError)
    return any(isinstance(each, missing) for each in _causes(error))


def _response(error: BaseException) -> Any:
    """Return the hub's answer that caused `error`, or None if there was none."""
    answers = (getattr(each, "response", None) for each in _causes(error))
    return next((each for each in answers if getattr(each, "status_code", 0) >= 400), None)


def _causes(error: BaseException) -> list[BaseException]:
    """Return `error` and what led to it, the last failure first."""
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        each = each.__cause__ or each.__context__
    return found


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def first_line(error: BaseException) -> str:
    """Return the first line of the message of `error` that is not empty, at most 200 characters."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= 200 else line[:197] + "..."


def _digest_of(path: Path) -> str:
    """Return the digest of the kind that names the blob of `path`; the name itself if it is no digest."""
    blob = path.resolve()
    status = blob.stat()
    if not (_SHA256.fullmatch(blob.name) or _GIT_SHA1.fullmatch(blob.name)):
        return blob.name
    return file_digest(blob, status.st_size, status.st_mtime_ns, git=len(blob.name) == 40)


@cache
def file_digest(path: Path, size: int, _mtime_ns: int, *, git: bool) -> str:
    """Return the SHA-256 of a file, or the SHA-1 that git gives it; cached while size and time stay the same."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if git else hashlib.sha256()
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()
