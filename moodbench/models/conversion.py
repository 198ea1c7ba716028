"""Safetensors that the hub's conversion bot proposes for a repository whose main branch holds pickled weights only."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from moodbench.models.locate import pickled

BOT = "SFconvertbot"
"""The hub's own account; anyone can give a proposal the same title."""
TITLE = "Adding `safetensors` variant of this model"


class Conversion(NamedTuple):
    """One proposal of the bot."""

    ref: str
    """Such as refs/pr/3."""
    commit: str

    def __str__(self) -> str:
        return f"{self.ref} (commit {self.commit[:12]}, a proposal of the hub's {BOT}, which the owner has not taken)"


def conversion_of(repository: str) -> Conversion | None:
    """The bot's newest open proposal whose pickles are, byte for byte, those of the main branch now; asks the hub."""
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
    """Whether weights as safetensors are among these files of one folder."""
    return any(name.endswith(".safetensors") for name in files)


def cached_conversion(repository_folder: Path) -> str | None:
    """The ref of a proposal whose safetensors are in the cache of this machine; the newest of several."""
    found = []
    for path in (repository_folder / "refs" / "refs" / "pr").glob("*"):
        snapshot = repository_folder / "snapshots" / path.read_text("utf-8").strip()
        if path.name.isdecimal() and any(snapshot.glob("*.safetensors")):
            found.append(int(path.name))
    return f"refs/pr/{max(found)}" if found else None


def proposal_at(repository: str, commit: str) -> str | None:
    """The ref of the proposal that the commit was fetched as; None where it was fetched as anything else."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    paths = (folder / "refs" / "refs" / "pr").glob("*")
    return next((f"refs/pr/{path.name}" for path in paths if path.read_text("utf-8").strip() == commit), None)


def _digests(repository: str, revision: str | None) -> dict[str, str]:
    """File of the top folder -> the digest under which the hub lists it."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    tree = HfApi().list_repo_tree(repository, revision=revision)
    return {e.path: e.lfs.sha256 if e.lfs else e.blob_id for e in tree if isinstance(e, RepoFile)}
