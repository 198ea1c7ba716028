"""Sphinx configuration of the documentation: `uv run --group docs sphinx-build -W docs docs/_build`."""

project = "MoodBench"
author = "The MoodBench authors"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "MoodBench"
myst_heading_anchors = 3
