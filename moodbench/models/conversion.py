"""Pull requests of the hub's conversion bot, with safetensors for repositories that have only pickled weights."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from moodbench.models.locate import pickled

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
