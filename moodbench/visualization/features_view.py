"""What works on which kind of device and why, as rows for the terminal and the documents."""

from __future__ import annotations

from moodbench.hardware import Device
from moodbench.models.features import FEATURES

DEVICES: dict[Device, str] = {"cuda": "CUDA", "mps": "Apple GPU", "cpu": "CPU"}
HEADINGS = ("Feature", *DEVICES.values())


def feature_rows() -> list[list[str]]:
    """One row per feature: its name, and for each kind of device yes or no with the reason."""
    return [
        [name, *(f"{'yes' if ways[device].works else 'no'}: {ways[device].why}" for device in DEVICES)]
        for name, ways in FEATURES.items()
    ]
