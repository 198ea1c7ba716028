"""Location of a store: a local folder with exclusive creation, or any pyarrow file system without it."""

from __future__ import annotations

import atexit
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.fs as pafs

from moodbench.errors import StoreError
from moodbench.paths import cache_folder, user_path


class LocalLocation:
    """A folder on this machine or on a shared file system; hard links make files appear only when complete.

    A key is a relative path with `/`.
    """

    exclusive = True
    """Whether creation fails if the key exists."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, source: Path, key: str) -> bool:
        """Publish the closed file `source` under `key`, and return whether there was none yet.

        A hard link fails if the name exists and never exposes a half-written file.
        """
        target = self.root / checked_key(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        sync_file(source)
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.EMLINK):
                raise StoreError(
                    f"{self.root}: this file system does not support hard links ({error.strerror}), so two writers "
                    "could overwrite each other; choose a folder on another disk with --store"
                ) from error
            raise
        sync_folder(target.parent)
        return True

    def create_folder(self, source: Path, key: str) -> bool:
        """Publish the folder `source` by rename, and return whether there was no non-empty folder of that name."""
        target = self.root / checked_key(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in sorted(source.rglob("*")):
            if path.is_file():
                sync_file(path)
        try:
            source.rename(target)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                return False
            raise
        sync_folder(target.parent)
        return True

    def keys(self, prefix: str) -> list[str]:
        """Return all keys of files below the folder `prefix`, sorted."""
        return sorted(key for key, _ in _walk(str(self.root / checked_key(prefix)), prefix))

    def stamps(self, prefix: str) -> dict[str, str]:
        """Return the stamp of every key below the folder `prefix`, sorted by key: equal while the file is unchanged."""
        found = {}
        for key, entry in _walk(str(self.root / checked_key(prefix)), prefix):
            with suppress(FileNotFoundError):  # moved away in the meantime
                fact = entry.stat()
                found[key] = f"{fact.st_size}-{fact.st_mtime_ns}"
        return dict(sorted(found.items()))

    def replace(self, source: Path, key: str) -> None:
        """Replace the file at `key` by the closed local file `source`: readers see all of the old or the new one."""
        target = self.root / checked_key(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        sync_file(source)
        source.replace(target)
        sync_folder(target.parent)

    def local(self, key: str) -> Path:
        """Return a local path with the file or folder at `key`."""
        return self.root / checked_key(key)

    def staging(self) -> Path:
        """Return a local folder from which `create` is atomic: `staging/` in the store, on the same file system."""
        return self.root / "staging"

    def delete(self, key: str) -> None:
        """Remove the file or folder at `key`."""
        path = self.root / checked_key(key)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def filesystem(self) -> tuple[pafs.FileSystem, str]:
        """Return pyarrow's local file system and the root folder."""
        return pafs.LocalFileSystem(), str(self.root)


class RemoteLocation:
    """A pyarrow.fs URI, without exclusive creation: writers use attempt names, and readers take the first."""

    exclusive = False

    def __init__(self, filesystem: pafs.FileSystem, root: str) -> None:
        self._filesystem, self._root = filesystem, root.rstrip("/")
        self._kept: dict[str, str] = {}

    def create(self, source: Path, key: str) -> bool:
        """Upload the file; the caller has made `key` unique."""
        target = f"{self._root}/{checked_key(key)}"
        self._filesystem.create_dir(target.rpartition("/")[0], recursive=True)
        with source.open("rb") as reader, self._filesystem.open_output_stream(target) as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
        return True

    def create_folder(self, source: Path, key: str) -> bool:
        """Upload every file below `source`."""
        for path in sorted(source.rglob("*")):
            if path.is_file():
                self.create(path, f"{key}/{path.relative_to(source).as_posix()}")
        return True

    def keys(self, prefix: str) -> list[str]:
        """Return all keys of files below the folder `prefix`, sorted."""
        return list(self.stamps(prefix))

    def stamps(self, prefix: str) -> dict[str, str]:
        """Return size and modification time of every key below the folder `prefix`."""
        selector = pafs.FileSelector(f"{self._root}/{checked_key(prefix)}", recursive=True, allow_not_found=True)
        try:
            found: list[Any] = self._filesystem.get_file_info(selector)
        except OSError as error:
            raise StoreError(
                f"{self._root}/{prefix}: cannot be listed ({str(error).splitlines()[0]}); "
                "check the connection and your permissions, or give another location with --store"
            ) from error
        start = len(self._root) + 1
        return dict(sorted((i.path[start:], _stamp(i)) for i in found if i.type == pafs.FileType.File))

    def replace(self, source: Path, key: str) -> None:
        """Upload over the old file; object stores show the old object until the new one is complete."""
        self.create(source, key)

    def local(self, key: str) -> Path:
        """Return a download of the file or folder at `key`, which is removed when this process ends.

        A downloaded file is cached as long as its stamp is unchanged.
        """
        info = self._filesystem.get_file_info(f"{self._root}/{checked_key(key)}")
        stamps = {key: _stamp(info)} if info.type == pafs.FileType.File else self.stamps(key)
        for each, stamp in stamps.items():
            if self._kept.get(each) != stamp or not (self._cache / each).exists():
                self._download(each)
                self._kept[each] = stamp
        for gone in [k for k in list(self._kept) if k not in stamps and (k == key or k.startswith(f"{key}/"))]:
            (self._cache / gone).unlink(missing_ok=True)
            del self._kept[gone]
        return self._cache / key

    @cached_property
    def _cache(self) -> Path:
        folder = tempfile.mkdtemp(prefix="moodbench-store-")
        # Removed at process exit, not with this object: callers may keep a path for longer.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def _download(self, key: str) -> None:
        """Download the file at `key` completely, or leave the local file unchanged on failure."""
        path = self._cache / key
        path.parent.mkdir(parents=True, exist_ok=True)
        part = self._cache / f".{uuid4().hex}.part"
        try:
            with (
                self._filesystem.open_input_stream(f"{self._root}/{checked_key(key)}") as reader,
                part.open("xb") as writer,
            ):
                shutil.copyfileobj(reader, writer, 1 << 20)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def staging(self) -> Path:
        """Return a folder on this machine, the same for every process, so that an interrupted fit resumes here."""
        digest = hashlib.sha256(f"{self._filesystem.type_name}:{self._root}".encode()).hexdigest()[:20]
        return cache_folder() / "staging" / digest

    def delete(self, key: str) -> None:
        """Remove the file or folder at `key`."""
        path = f"{self._root}/{checked_key(key)}"
        kind = self._filesystem.get_file_info(path).type
        if kind == pafs.FileType.Directory:
            self._filesystem.delete_dir(path)
        elif kind == pafs.FileType.File:
            self._filesystem.delete_file(path)

    def filesystem(self) -> tuple[pafs.FileSystem, str]:
        """Return the pyarrow file system and the root path in it."""
        return self._filesystem, self._root


Location = LocalLocation | RemoteLocation
"""Files of a store by key."""


def open_location(uri: str | Path) -> Location:
    """Return the location of `uri`: a path, or a URI that pyarrow.fs understands (file:, s3:, gs:, hdfs: ...).

    Raises: StoreError if pyarrow.fs cannot open the URI.
    """
    text = str(uri)
    if not text.strip():
        raise StoreError(f"--store {text!r}: is empty; give a folder or a URI such as s3://bucket/folder")
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme in ("", "file"):
        return LocalLocation(user_path(text.removeprefix("file://")))
    try:
        filesystem, root = pafs.FileSystem.from_uri(text)
    except (ValueError, OSError) as error:
        raise StoreError(f"--store {text!r}: {error}; give a folder or a URI such as s3://bucket/folder") from error
    return RemoteLocation(filesystem, root)


def checked_key(key: str) -> str:
    """Return `key` if it is a path inside of a store: relative, with `/`, without `.`, `..`, NUL and empty parts.

    Raises: StoreError. Names are checked where they enter; keys can also come from a record that was tampered with.
    """
    if "\0" in key or "\\" in key or not {"", ".", ".."}.isdisjoint(key.split("/")):
        raise StoreError(f"{key!r} is no path inside the store; `moodbench store verify` lists damaged records")
    return key


def _stamp(info: Any) -> str:
    """Return a string that stays equal as long as the file of `info` is unchanged."""
    return f"{info.size}-{info.mtime_ns}"


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the key and the directory entry of every file below `folder`, whose own key is `prefix`.

    No Path objects are created, for speed: the page lists all files of a store, up to 30,000, again and again.
    Raises: StoreError if a folder cannot be listed, because its files must not seem missing.
    """
    try:
        with os.scandir(folder) as held:
            entries = list(held)
    except (FileNotFoundError, NotADirectoryError):  # not created yet, or moved away in the meantime
        return
    except OSError as error:
        raise StoreError(
            f"{error.filename}: cannot be listed ({error.strerror}); "
            "change its permissions or give another folder with --store"
        ) from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}/{entry.name}")
        elif entry.is_file():
            yield f"{prefix}/{entry.name}", entry


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the file at `path`, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Flush the file at `path` to disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Flush the directory entry changes of `path` to disk."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
