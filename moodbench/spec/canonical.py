"""Canonical JSON and the content hashes that identify trials."""

from __future__ import annotations

import hashlib
import json
from typing import Any

IDENTITY_VERSION = 1
"""Raised when the meaning of an id changes; it is inside every hashed object."""


def canonical_json(value: Any) -> str:
    """`value` as JSON with sorted keys, no spaces, shortest round-trip floats; ValueError for NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_id(kind: str, value: Any) -> str:
    """The first 20 hex digits of the SHA-256 of canonical JSON holding `kind`, the identity version and `value`."""
    hashed = canonical_json({"identity_version": IDENTITY_VERSION, "kind": kind, "value": value})
    return hashlib.sha256(hashed.encode("utf-8")).hexdigest()[:20]
