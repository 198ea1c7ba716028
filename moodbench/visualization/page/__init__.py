"""The page: a Gradio shell around tabs, each a module that fills its components from a reading and a state."""

from moodbench.visualization.page.shell import build_page
from moodbench.visualization.page.tab import Answer, Ask, Services
from moodbench.visualization.page.theme import launch_options, quiet_environment

__all__ = ["Answer", "Ask", "Services", "build_page", "launch_options", "quiet_environment"]
