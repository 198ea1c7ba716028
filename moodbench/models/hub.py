"""Model files on the Hugging Face hub: download into its cache, digests, and conversions to safetensors.

The hub's conversion bot proposes safetensors, as a pull request, for repositories with pickled weights only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from moodbench.config.schema import ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.hub import (
    Repository,
    hub_cache_folder,
    hub_errors,
    offline,
    reason_of,
    refusal_of_wrong,
    remove_from_cache,
    retried,
    wrong_files,
)

NEEDED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.py")
"""Patterns of the files in a repository's top folder that loading needs."""
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
"""Suffixes of files with pickled weights."""
PICKLE = (
    "which can run any code when they are read; use a revision with model.safetensors (`source.revision` in a "
    "catalogue entry), or convert them on an isolated machine and give the folder as `path`"
)
BOT = "SFconvertbot"
"""Account of the hub's conversion bot; it is checked because anyone can open a pull request with the same title."""
TITLE = "Adding `safetensors` variant of this model"


class Conversion(NamedTuple):
    """One pull request of the bot."""

    ref: str
    """Git ref of the pull request, such as refs/pr/3."""
    commit: str

    def __str__(self) -> str:
        return f"{self.ref} (commit {self.commit[:12]}, a pull request of the hub's {BOT} that is not merged)"


def hub_folder(name: str, source: ModelSource) -> tuple[Path, str]:
    """Return the hub cache folder with the files of `source`, downloaded if necessary, and their commit.

    A cached file that differs from the digest that the hub states is removed and downloaded again. What is complete in
    the cache needs no hub.

    Raises: PrerequisiteError if the repository or revision is gated or missing, the hub cannot be reached or has a
    fault, a download was interrupted or is wrong again, or there are only pickled weights.
    """
    folder = _checked_snapshot(name, source, source.revision)
    if source.converted and source.revision is None and not any(folder.glob("*.safetensors")):
        ref = _conversion_ref(name, source)
        folder = _checked_snapshot(name, source, ref) if ref else folder
    if not any(folder.glob("*.safetensors")):
        raise PrerequisiteError(f"model {name}: hub repository {source.hub} {_without_weights(source, name)}")
    return folder, folder.name


def newest_revision(name: str, source: ModelSource, *, converted: bool = False) -> tuple[str, str]:
    """Return the commit to pin and, unless it is the newest of the main branch, a description of it.

    The hub is queried. If the main branch has no safetensors, and `converted` or the source allows it, the commit is
    the conversion of the hub's bot.

    Raises: PrerequisiteError as in `hub_folder`.
    """
    from huggingface_hub import HfApi

    with _explained(name, source):
        info: Any = retried(lambda: HfApi().model_info(str(source.hub)))
        if has_safetensors(each.rfilename for each in info.siblings if "/" not in each.rfilename):
            return str(info.sha), ""
        found = conversion_of(str(source.hub)) if converted or source.converted else None
    if found is None:
        newest = source.model_copy(update={"revision": None})
        raise PrerequisiteError(f"model {name}: hub repository {source.hub} {_without_weights(newest, name)}")
    return found.commit, str(found)


def conversion_of(repository: str) -> Conversion | None:
    """Return the bot's newest open pull request that matches the main branch, or None; queries the hub.

    It matches if its pickled weights are byte for byte those that the main branch has now.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    main = _listed_digests(repository, None)
    proposals = [
        each
        for each in api.get_repo_discussions(repository, author=BOT, discussion_type="pull_request")
        if each.author == BOT and each.title == TITLE and each.is_pull_request and each.status == "open"
    ]
    for each in sorted(proposals, key=lambda proposal: proposal.num, reverse=True):
        ref = f"refs/pr/{each.num}"
        files = _listed_digests(repository, ref)
        same = all(files.get(name) == main[name] for name in pickled(main))
        if same and has_safetensors(files):
            return Conversion(ref, str(api.model_info(repository, revision=ref).sha))
    return None


def pull_request_at(repository: str, commit: str) -> str | None:
    """Return the ref of the pull request under which `commit` is cached, or None."""
    return next((ref for ref, cached in _cached_pull_requests(repository).items() if cached == commit), None)


def has_safetensors(files: Iterable[str]) -> bool:
    """Return whether `files`, the files of one folder, include safetensors."""
    return any(name.endswith(".safetensors") for name in files)


def pickled(names: Iterable[str]) -> list[str]:
    """Return the files of one folder that hold pickled weights, judged by their suffixes, sorted."""
    return sorted(n for n in names if n.lower().endswith(PICKLED) and n != "training_args.bin")


def digest_of(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of the concatenated files, in hex; cached as long as no size or modification time changes."""
    status = [path.stat() for path in paths]
    return _digest(tuple(paths), tuple((each.st_size, each.st_mtime_ns) for each in status))


@cache
def _digest(paths: tuple[Path, ...], _: tuple[tuple[int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def _checked_snapshot(name: str, source: ModelSource, revision: str | None) -> Path:
    """Return the cache folder of a revision, every file of which has the digest that the hub states.

    Wrong files are removed and downloaded again once.
    """
    folder = _snapshot(name, source, revision)
    wrong = _wrong_files(folder)
    if wrong and not offline():
        remove_from_cache(wrong)
        folder = _snapshot(name, source, revision)
        wrong = _wrong_files(folder)
    if not wrong:
        return folder
    if not offline():
        remove_from_cache(wrong)
    files = f"model {name}: {', '.join(path.name for path in wrong)} of hub repository {source.hub}"
    raise refusal_of_wrong(files, folder, f"`moodbench catalogue fetch {name}`")


def _wrong_files(folder: Path) -> list[Path]:
    return wrong_files(p for p in sorted(folder.iterdir()) if any(fnmatch(p.name, pattern) for pattern in NEEDED))


def _snapshot(name: str, source: ModelSource, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [pattern for pattern in NEEDED if pattern != "*.py" or source.trust_remote_code]

    def download() -> str:
        return snapshot_download(str(source.hub), revision=revision, allow_patterns=wanted, ignore_patterns=["*/*"])

    with _explained(name, source):
        return Path(retried(download))


def _conversion_ref(name: str, source: ModelSource) -> str | None:
    """Return the ref of the safetensors conversion on the hub or, if the hub cannot be reached, in the cache."""
    try:
        with _explained(name, source):
            found = conversion_of(str(source.hub))
    except PrerequisiteError:
        folder = hub_cache_folder(str(source.hub), "model") / "snapshots"
        cached = [
            ref
            for ref, commit in _cached_pull_requests(str(source.hub)).items()
            if any((folder / commit).glob("*.safetensors"))
        ]
        if not cached:
            raise
        return max(cached, key=lambda ref: int(ref.rpartition("/")[2]))
    return found.ref if found else None


def _cached_pull_requests(repository: str) -> dict[str, str]:
    """Return ref -> commit of the pull requests of a repository in the hub cache."""
    paths = (hub_cache_folder(repository, "model") / "refs" / "refs" / "pr").glob("*")
    return {f"refs/pr/{path.name}": path.read_text("utf-8").strip() for path in paths if path.name.isdecimal()}


def _listed_digests(repository: str, revision: str | None) -> dict[str, str]:
    """Return the digest that the hub lists for each file of the top folder."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    tree = HfApi().list_repo_tree(repository, revision=revision)
    return {e.path: e.lfs.sha256 if e.lfs else e.blob_id for e in tree if isinstance(e, RepoFile)}


def _without_weights(source: ModelSource, name: str) -> str:
    """Return the reason why the snapshot has no safetensors: only pickled weights, no weights, or not downloaded."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().list_repo_files(str(source.hub), revision=source.revision)
    except hub_errors() as error:
        reason = reason_of(error, _repository(name, source))
        return f"is in the cache without its weights, and the hub cannot be queried ({reason})"
    pickles = pickled(f for f in files if "/" not in f)
    if pickles:
        return f"holds pickled weights only ({', '.join(pickles)}), {PICKLE}{_conversion_hint(source, name)}"
    return f"has no *.safetensors (it has {', '.join(sorted(files)[:8]) or 'no files'}); choose another repository"


def _conversion_hint(source: ModelSource, name: str) -> str:
    """Return a hint how to use the conversion in a pull request of the hub's bot, or "" if there is none."""
    try:
        found = conversion_of(str(source.hub))
    except hub_errors():
        return ""
    if found is None:
        return ""
    return (
        f". Safetensors of the same weights are at {found}; `moodbench catalogue pin {name} --converted` records that "
        "commit in a file for --config"
    )


@contextmanager
def _explained(name: str, source: ModelSource) -> Iterator[None]:
    try:
        yield
    except hub_errors() as error:
        raise PrerequisiteError(f"model {name}: {reason_of(error, _repository(name, source))}") from error


def _repository(name: str, source: ModelSource) -> Repository:
    needed = (
        "needed are its config.json, tokenizer files and *.safetensors. Fetch them where there is a network with "
        f"`moodbench catalogue fetch {name}`, and copy the folder of the cache (HF_HOME, by default "
        "~/.cache/huggingface) here"
    )
    return Repository("model", str(source.hub), source.revision, needed)
