"""Launch options of the page, which keep it offline: local fonts only, nothing downloaded, no telemetry."""

from __future__ import annotations

import os
import warnings
from importlib.resources import files
from typing import Any
from urllib.request import getproxies

from pydantic.warnings import UnsupportedFieldAttributeWarning


def quiet_environment() -> None:
    """Turn off telemetry, and two warnings; call it before Gradio is imported and before other threads start.

    Gradio suppresses the warning of its audio library about missing ffmpeg, and FastAPI that of Pydantic about fields
    that FastAPI itself creates; both use `warnings.catch_warnings`, which another thread can undo.
    """
    warnings.filterwarnings("ignore", "Couldn't find ffmpeg", RuntimeWarning)
    warnings.simplefilter("ignore", UnsupportedFieldAttributeWarning)
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # for the runs that the page starts
    # Gradio sends itself a request to check that it is up.
    os.environ["no_proxy"] = f"{getproxies().get('no', '')},127.0.0.1"


def launch_options() -> dict[str, Any]:
    """Return the arguments that `launch` needs besides an address."""
    import gradio as gr

    # Gradio's semi-bold Source Sans is a subset that mixes two fonts in one word; 600 falls back to the complete bold.
    sans = [gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"]
    theme = gr.themes.Default(primary_hue="blue", font=sans).set(
        color_accent="*primary_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )
    return {
        "theme": theme,
        "css": files("moodbench.app").joinpath("page.css").read_text("utf-8"),
        "footer_links": [],
        "quiet": True,
        "prevent_thread_lock": True,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": False,
        "share": False,
    }
