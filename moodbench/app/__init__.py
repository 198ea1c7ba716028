"""The page: a Gradio shell around tabs, each a module that fills its components from a snapshot and a state."""

from moodbench.app.guard import refuse_unguarded
from moodbench.app.page import build_page, launch_options, quiet_environment
from moodbench.app.tab import Services

__all__ = ["Services", "build_page", "launch_options", "quiet_environment", "refuse_unguarded"]
