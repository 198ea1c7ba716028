"""Types of errors that a user can meet; each sentence stands where it is raised, and cli/__init__.py prints it.

MoodBenchError
├── UsageError            the request is wrong: a name, a value, a combination
│   ├── UnknownNameError  a name that is not registered; suggests the nearest
│   └── SpecError         a value in a spec, catalogue or option is not allowed
├── DataError             the data cannot be used as asked
├── PrerequisiteError     something the request needs is missing: a package, a file, a device
└── StoreError            the results folder cannot be read or written as it is

A message says what happened, where, the value seen, what is allowed and what to do next.
These errors are printed without a traceback and end a command with exit code 2.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable

INTERRUPTED = 130
"""Exit code of a command that a person ended: 128 plus the number of SIGINT."""
TERMINATED = 143
"""Exit code of a command that the system or another program ended: 128 plus the number of SIGTERM."""
DISK_ERRORS = frozenset(getattr(errno, n) for n in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS") if hasattr(errno, n))
"""Error numbers of an OSError that a user can fix: disk full, quota, limit on file size, read-only file system."""


class MoodBenchError(Exception):
    """Base of all errors that a user can fix."""


class UsageError(MoodBenchError, ValueError):
    """The request itself is wrong."""


class UnknownNameError(UsageError):
    """A name that is not registered."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = nearest(name, known)
        hint = f"did you mean {near!r}? " if near else ""
        super().__init__(f"unknown {kind} {name!r}: {hint}known are {', '.join(known) or 'none'}")


class SpecError(UsageError):
    """A value in a spec, catalogue or option that is not allowed."""


class DataError(MoodBenchError):
    """Data that cannot be used as asked."""


class PrerequisiteError(MoodBenchError):
    """Something the request needs is missing."""


class StoreError(MoodBenchError):
    """A results folder that cannot be read or written as it is."""


def is_of_disk(error: BaseException) -> bool:
    """Return whether `error` is one of DISK_ERRORS: as an OSError, or as a library's error that quotes its message."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in DISK_ERRORS
    return any(os.strerror(number) in str(error) for number in DISK_ERRORS)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, ignoring case, or None if none is close."""
    by_lower = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None
