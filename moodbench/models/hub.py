"""Download of model files from the Hugging Face hub into its cache; here are its conversions to safetensors too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from moodbench.config.schema import ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.models.locate import PICKLE, digest_of, pickled

NEEDED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.py"]
"""Patterns of the files in a repository's top folder that loading needs."""
_SHA256 = re.compile("[0-9a-f]{64}")


def hub_folder(name: str, source: ModelSource) -> tuple[Path, str]:
    """Return the hub cache folder with the files of `source`, downloaded if necessary, and their commit.

    Raises: PrerequisiteError if the repository or revision is gated or missing, the network is down, a download was
    interrupted or is corrupt, or there are only pickled weights.
    """
    folder = _snapshot(name, source, source.revision)
    if source.converted and source.revision is None and not any(folder.glob("*.safetensors")):
        ref = _conversion_ref(name, source, folder)
        folder = _snapshot(name, source, ref) if ref else folder
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise PrerequisiteError(f"model {name}: hub repository {source.hub} {_without_weights(source, name)}")
    for path in weights:
        _check_against_the_hub(name, source, path)
    return folder, folder.name


def _snapshot(name: str, source: ModelSource, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [pattern for pattern in NEEDED if pattern != "*.py" or source.trust_remote_code]
    try:
        found = snapshot_download(str(source.hub), revision=revision, allow_patterns=wanted, ignore_patterns=["*/*"])
    except Exception as error:
        raise PrerequisiteError(f"model {name}: {explain(error, name, source)}") from error
    return Path(found)


def _conversion_ref(name: str, source: ModelSource, snapshot: Path) -> str | None:
    """Return the ref of the safetensors conversion on the hub or, if the hub cannot be reached, in the cache."""
    try:
        found = conversion_of(str(source.hub))
    except Exception as error:
        cached = cached_conversion(snapshot.parent.parent)
        if cached is None:
            raise PrerequisiteError(f"model {name}: {explain(error, name, source)}") from error
        return cached
    return found.ref if found else None


def explain(error: Exception, name: str, source: ModelSource) -> str:
    """Return a message that says what went wrong with a hub repository and what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository = f"hub repository {source.hub}" + (f" at revision {source.revision}" if source.revision else "")
    causes = [error, *_causes(error)]
    if any(isinstance(e, GatedRepoError) for e in causes):
        return (
            f"{repository} is gated: accept its terms at https://huggingface.co/{source.hub}, then log in with "
            "`hf auth login` or set HF_TOKEN, and run the same command again"
        )
    if any(isinstance(e, RevisionNotFoundError) for e in causes):
        return (
            f"{repository}: the repository has no such revision; correct `source.revision`, or leave it out for the "
            "newest"
        )
    if any(isinstance(e, RepositoryNotFoundError) for e in causes):
        return f"{repository} does not exist, or is private and this machine is not logged in (`hf auth login`)"
    if any(isinstance(e, LocalEntryNotFoundError) for e in causes):
        return (
            f"no network, and {repository} is not in the cache of this machine; needed are its config.json, tokenizer "
            f"files and *.safetensors. Fetch them where there is a network with `moodbench fetch {name}`, and copy the "
            "folder of the cache (HF_HOME, by default ~/.cache/huggingface) here"
        )
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"{repository}: the download broke off ({type(error).__name__}: {first}); the same command goes on from there"
    )


def _causes(error: BaseException) -> list[BaseException]:
    cause = error.__cause__ or error.__context__
    return [cause, *_causes(cause)] if cause else []


def _without_weights(source: ModelSource, name: str) -> str:
    """Return the reason why the snapshot has no safetensors: only pickled weights, no weights, or not downloaded."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().list_repo_files(str(source.hub), revision=source.revision)
    except Exception as error:  # noqa: BLE001
        return f"is in the cache without its weights, and the hub cannot be asked ({explain(error, name, source)})"
    pickles = pickled(f for f in files if "/" not in f)
    if pickles:
        return f"holds pickled weights only ({', '.join(pickles)}), {PICKLE}{_offer(source, name)}"
    return f"has no *.safetensors (it has {', '.join(sorted(files)[:8]) or 'no files'}); choose another repository"


def _offer(source: ModelSource, name: str) -> str:
    """Return a hint how to use the conversion in a pull request of the hub's bot, or "" if there is none."""
    try:
        found = conversion_of(str(source.hub))
    except Exception:  # noqa: BLE001
        return ""
    if found is None:
        return ""
    return (
        f". Safetensors of the same weights are at {found}; `moodbench catalogue pin {name} --converted` records that "
        "commit in a file for --config"
    )


def _check_against_the_hub(name: str, source: ModelSource, path: Path) -> None:
    """Raise PrerequisiteError if a file differs from the digest that the hub lists for it."""
    blob = path.resolve()
    if not _SHA256.fullmatch(blob.name):
        return  # small files are not in large-file storage and have another kind of digest
    status = blob.stat()
    if digest_of((blob,), f"{status.st_size}-{status.st_mtime_ns}") != blob.name:
        raise PrerequisiteError(
            f"model {name}: {path.name} of hub repository {source.hub} differs from the sha256 that the hub lists "
            f"({blob.name[:12]}...); remove {blob} and fetch it again"
        )


def newest_revision(name: str, source: ModelSource, *, converted: bool = False) -> tuple[str, str]:
    """Return the commit to pin and, unless it is the newest of the main branch, a description of it.

    The hub is queried. If the main branch has no safetensors, and `converted` or the source allows it, the commit is
    the conversion of the hub's bot.

    Raises: PrerequisiteError as in `hub_folder`.
    """
    from huggingface_hub import HfApi

    try:
        info: Any = HfApi().model_info(str(source.hub))
        if has_safetensors([each.rfilename for each in info.siblings if "/" not in each.rfilename]):
            return str(info.sha), ""
        found = conversion_of(str(source.hub)) if converted or source.converted else None
    except Exception as error:
        raise PrerequisiteError(f"model {name}: {explain(error, name, source)}") from error
    if found is None:
        newest = source.model_copy(update={"revision": None})
        raise PrerequisiteError(f"model {name}: hub repository {source.hub} {_without_weights(newest, name)}")
    return found.commit, str(found)


BOT = "SFconvertbot"
"""Account of the hub's conversion bot; it is checked because anyone can open a pull request with the same title."""
TITLE = "Adding `safetensors` variant of this model"


class Conversion(NamedTuple):
    """One pull request of the bot."""

    ref: str
    """Git ref of the pull request, such as refs/pr/3."""
    commit: str

    def __str__(self) -> str:
        return f"{self.ref} (commit {self.commit[:12]}, a proposal of the hub's {BOT}, which the owner has not taken)"


def conversion_of(repository: str) -> Conversion | None:
    """Return the bot's newest open pull request that matches the main branch, or None; queries the hub.

    It matches if its pickled weights are byte for byte those that the main branch has now.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    main = _digests(repository, None)
    proposals = [
        each
        for each in api.get_repo_discussions(repository, author=BOT, discussion_type="pull_request")
        if each.author == BOT and each.title == TITLE and each.is_pull_request and each.status == "open"
    ]
    for each in sorted(proposals, key=lambda proposal: proposal.num, reverse=True):
        ref = f"refs/pr/{each.num}"
        files = _digests(repository, ref)
        same = {name: files.get(name) for name in pickled(main)} == {name: main[name] for name in pickled(main)}
        if same and has_safetensors(files):
            return Conversion(ref, str(api.model_info(repository, revision=ref).sha))
    return None


def has_safetensors(files: dict[str, str] | list[str]) -> bool:
    """Return whether `files`, the files of one folder, include safetensors."""
    return any(name.endswith(".safetensors") for name in files)


def cached_conversion(repository_folder: Path) -> str | None:
    """Return the ref of the newest pull request whose safetensors are in the local cache, or None."""
    found = []
    for path in (repository_folder / "refs" / "refs" / "pr").glob("*"):
        snapshot = repository_folder / "snapshots" / path.read_text("utf-8").strip()
        if path.name.isdecimal() and any(snapshot.glob("*.safetensors")):
            found.append(int(path.name))
    return f"refs/pr/{max(found)}" if found else None


def proposal_at(repository: str, commit: str) -> str | None:
    """Return the ref of the pull request under which `commit` is cached, or None."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    paths = (folder / "refs" / "refs" / "pr").glob("*")
    return next((f"refs/pr/{path.name}" for path in paths if path.read_text("utf-8").strip() == commit), None)


def _digests(repository: str, revision: str | None) -> dict[str, str]:
    """Return the digest that the hub lists for each file of the top folder."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    tree = HfApi().list_repo_tree(repository, revision=revision)
    return {e.path: e.lfs.sha256 if e.lfs else e.blob_id for e in tree if isinstance(e, RepoFile)}
