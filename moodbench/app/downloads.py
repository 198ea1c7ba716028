"""Files that visitors download: written once per content, a few of them cached, all removed when the page ends."""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path

MOST_KEPT = 24


class Downloads:
    """A folder of at most `most` files, which is removed when the process ends."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._folder = tempfile.mkdtemp(prefix="moodbench-page-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._most, self._lock = most, threading.Lock()
        self._kept: OrderedDict[tuple[Hashable, str], Path] = OrderedDict()

    def path(self, key: Hashable, name: str, make: Callable[[], bytes]) -> str:
        """Return the path of the file `name` for `key`; `make` returns its content where it is not cached."""
        with self._lock:
            found = self._kept.get((key, name))
            if found is None:
                found = Path(tempfile.mkdtemp(dir=self._folder)) / name
                found.write_bytes(make())
                self._kept[key, name] = found
            self._kept.move_to_end((key, name))
            while len(self._kept) > self._most:
                shutil.rmtree(self._kept.popitem(last=False)[1].parent, ignore_errors=True)
            return str(found)
