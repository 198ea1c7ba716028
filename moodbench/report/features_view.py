"""Table of the features that work on each type of device, with the reasons, for the terminal and the documentation."""

from __future__ import annotations

from moodbench.hardware import Device
from moodbench.models.features import FEATURES

DEVICES: dict[Device, str] = {"cuda": "CUDA", "mps": "Apple GPU", "cpu": "CPU"}
HEADINGS = ("Feature", *DEVICES.values())


def feature_rows() -> list[list[str]]:
    """Return one row per feature: its name and, for each type of device, yes or no with the reason."""
    return [
        [name, *(f"{'yes' if ways[device].works else 'no'}: {ways[device].why}" for device in DEVICES)]
        for name, ways in FEATURES.items()
    ]
