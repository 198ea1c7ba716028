"""Shows the board of a store as a page, read-only and to this machine alone."""

import argparse
import os
from urllib.request import getproxies

from moodbench.cli.options import add_store
from moodbench.errors import MoodBenchError
from moodbench.hardware import hardware
from moodbench.store import Store
from moodbench.visualization.page import build_page, launch_options
from moodbench.visualization.terminal import console


def main() -> None:
    """Nothing; serves the page until it is interrupted."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}  # read when Gradio is imported
    os.environ["no_proxy"] = f"{getproxies().get('no', '')},127.0.0.1"  # Gradio asks itself whether it is up
    parser = argparse.ArgumentParser(description=__doc__)
    add_store(parser)
    parser.add_argument("--port", type=int, help="port on this machine; default: the first free one from 7860 on")
    arguments = parser.parse_args()
    try:
        page = build_page(Store.open(arguments.store), hardware())
        _, url, _ = page.launch(server_name="127.0.0.1", server_port=arguments.port, share=False, **launch_options())
    except (MoodBenchError, OSError) as error:
        parser.error(str(error))
    console().print(f"The board of {arguments.store} is at {url} (Ctrl+C ends it)", markup=False)
    page.block_thread()


if __name__ == "__main__":
    main()
