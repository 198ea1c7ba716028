"""MoodBench: which small language model should classify these reviews, on this hardware?

The story, in the order in which data flows:

    spec -> plan -> trial (data -> model -> train -> evaluate -> measure) -> store -> compare -> show
"""

from importlib.metadata import version

__version__ = version("moodbench")
