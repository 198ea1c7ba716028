"""Tables, figures and reports of a store, for the terminal, the page and files."""
