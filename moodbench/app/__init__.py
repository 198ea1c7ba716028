"""The page: a Gradio shell around tabs, each a module that fills its components from a reading and a state."""

from moodbench.app.shell import build_page
from moodbench.app.tab import Answer, Ask, Services
from moodbench.app.theme import launch_options, quiet_environment

__all__ = ["Answer", "Ask", "Services", "build_page", "launch_options", "quiet_environment"]
