"""Canonical JSON and the content hashes that identify trials."""

from __future__ import annotations

import hashlib
import json
from typing import Any

IDENTITY_VERSION = 1
"""Incremented when the meaning of ids changes; part of every hashed object."""


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys, no spaces and shortest round-trip floats.

    Raises: ValueError for NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_id(kind: str, value: Any) -> str:
    """Return the first 20 hex digits of the SHA-256 of the canonical JSON of `kind`, `value` and IDENTITY_VERSION."""
    hashed = canonical_json({"identity_version": IDENTITY_VERSION, "kind": kind, "value": value})
    return hashlib.sha256(hashed.encode("utf-8")).hexdigest()[:20]
