"""The folder where prepared data and converted models are cached between runs, and atomic writes to it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from moodbench.errors import UsageError
from moodbench.paths import expanded


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
