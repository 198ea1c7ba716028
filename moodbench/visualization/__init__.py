"""Tables for the terminal and the page."""
