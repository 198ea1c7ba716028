"""The folder where prepared data and converted models are cached between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return MOODBENCH_CACHE, else the user's cache folder."""
    base = os.environ.get("MOODBENCH_CACHE")
    if base:
        return Path(base).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "moodbench"
