"""Paths and names that users give, the folder of the cache, and how files are written: whole or not at all."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from moodbench.errors import PrerequisiteError, UsageError, is_of_disk

MAX_NAME_BYTES = 120
"""Longest name, in UTF-8: with what is added to it, it remains below the 255 bytes of most file systems."""
_NAME = re.compile(r"\w(?:[\w .+-]*[\w+-])?")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""Names of devices on Windows, with any ending."""
_SYSTEM_FOLDERS = ("/dev/", "/proc/")


def checked_name(name: str, parts: int = 1) -> str:
    """Return `name` if files and folders can have it in their names on every system.

    With several `parts`, such as the two of a hub id, that many may be joined by slashes.
    Raises: ValueError, which says what is allowed.
    """
    for part in name.split("/", parts - 1):
        if not _NAME.fullmatch(part):
            slash = "" if parts == 1 else f", up to {parts} joined by a slash"
            raise ValueError(
                "allowed are letters, digits, spaces and . _ + -, beginning with a letter, digit or _ and not ending "
                f"with a space or dot{slash}"
            )
        if len(part.encode()) > MAX_NAME_BYTES:
            raise ValueError(f"has {len(part.encode())} bytes; allowed are {MAX_NAME_BYTES}")
        if "/" not in name and _RESERVED.fullmatch(part):
            raise ValueError("is the name of a device on Windows; choose another")
    return name


def folder_name(name: str) -> str:
    """Return a relative path for any text, such as a model's name or path: not absolute, without `..`, parts short."""
    parts = (re.sub(r"[^\w.+-]+", "-", part).strip("-.")[: MAX_NAME_BYTES // 4] for part in name.split("/"))
    return "/".join(part for part in parts if part) or "unnamed"


def existing_folder(given: str) -> Path | None:
    """Return the absolute path of the folder that a user means, or None if there is none."""
    with suppress(RuntimeError, ValueError, OSError):  # `~name` of nobody, a character that no path has, a long name
        path = Path(given).expanduser().absolute()
        return path if path.is_dir() else None
    return None


def expanded(given: str | Path, source: str = "") -> Path:
    """Return the path that a user means, with `~` replaced; messages begin with its `source`, such as a variable.

    Raises: UsageError if no path can be so: `~name` of an unknown user, or a character that no path has.
    """
    text = str(given)
    if "\0" in text:
        raise UsageError(f"{source}{text!r}: no path has a NUL character; give another one")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{source}{text!r}: {error}; write the folder in full") from error


def user_path(given: str | Path) -> Path:
    """Return the absolute path that a user means, with `~` and links resolved.

    Raises: UsageError if there is no such path, as for a loop of links.
    """
    path = expanded(given)
    try:
        return path.resolve()
    except (RuntimeError, ValueError, OSError) as error:  # RuntimeError: a loop of links
        raise UsageError(f"{str(given)!r}: is no usable path ({_reason(error)}); give another one") from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@contextmanager
def output_file(path: Path, option: str = "--output") -> Iterator[BinaryIO]:
    """Yield a binary file for the content of the file `path`, which the user gave with `option`.

    A regular file, also through a link, is replaced at once when complete and keeps its permissions; after an error it
    is as before. A terminal, a pipe or another character device, such as /dev/stdout, is written to as the content
    arrives. Nothing else is written to.
    Raises: UsageError for a folder and other kinds of files; PrerequisiteError if the file cannot be written.
    """
    try:
        found = path.stat() if os.path.lexists(path) else None
    except FileNotFoundError:
        found = None  # a link to a file that does not exist yet
    except (OSError, ValueError) as error:
        raise PrerequisiteError(f"{option} {path}: {_reason(error)}; nothing was written there") from error
    if found and not (stat.S_ISREG(found.st_mode) or stat.S_ISCHR(found.st_mode) or stat.S_ISFIFO(found.st_mode)):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "neither a regular file nor a pipe"
        raise UsageError(f"{option} {path}: is {kind}; give a file's name")
    by_descriptor = str(path).startswith(_SYSTEM_FOLDERS)  # an open file of this process, such as /dev/stdout
    is_stream = found is not None and (not stat.S_ISREG(found.st_mode) or by_descriptor or _is_standard_output(found))
    with _reported(path, option) as started, _stream(path) if is_stream else _replacing(user_path(path)) as file:
        started.append(True)
        yield file


def _is_standard_output(found: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(found, os.fstat(1))
    return False


@contextmanager
def _reported(path: Path, option: str) -> Iterator[list[bool]]:
    """Turn an OSError of opening, or of a disk, into PrerequisiteError; others are those of the input or the model."""
    started: list[bool] = []
    try:
        yield started
    except BrokenPipeError:
        raise
    except OSError as error:
        if started and not is_of_disk(error):
            raise
        raise PrerequisiteError(f"{option} {path}: {_reason(error)}; nothing was written there") from error


@contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    """Yield the stream at `path`; standard output itself, whose position in a file later output continues."""
    descriptor = os.dup(1) if _is_standard_output(path.stat()) else os.open(path, os.O_WRONLY | os.O_APPEND)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
        yield file


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file beside `path` that takes its place, with its permissions, unless an error occurs."""
    before = path.stat() if path.exists() else None
    if before and not os.access(path, os.W_OK):
        raise PermissionError(13, os.strerror(13), str(path))
    partial = path.with_name(f".{uuid4().hex[:12]}.part")
    try:
        with partial.open("xb") as file:
            yield file
        if before:
            with suppress(PermissionError):  # only root may give a file away
                os.chown(partial, before.st_uid, before.st_gid)
            partial.chmod(stat.S_IMODE(before.st_mode))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_files(folder: Path, contents: Mapping[str, bytes]) -> Iterator[Path]:
    """Write files by name to `folder`, made if it is missing, and yield the path of each.

    Raises: PrerequisiteError if they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrerequisiteError(
            f"{folder}: cannot be written ({error.strerror or error}); give a folder with --output"
        ) from error
    for name, content in contents.items():
        yield write_output(folder / name, content)


def write_output(path: Path, content: bytes, option: str = "--output") -> Path:
    """Write the file `path` as `output_file` does, and return `path`."""
    with output_file(path, option) as file:
        file.write(content)
    return path


def cache_folder() -> Path:
    """Return MOODBENCH_CACHE, else the user's cache folder.

    Raises: UsageError if there can be no such folder.
    """
    base = os.environ.get("MOODBENCH_CACHE")
    variable, given = ("MOODBENCH_CACHE", base) if base else ("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME"))
    path = expanded(given or "~/.cache", f"{variable}=")
    found = next((each for each in (path, *path.parents) if each.exists()), path)
    if found.is_file():
        raise UsageError(f"{variable}={given}: {found} is a file; give a folder")
    return path if base else path / "moodbench"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file that is renamed to `path` once it is complete, and deleted after an error.

    Readers never see a partial file; concurrent writers must write the same content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    staged = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
