"""A watched run, drawn: what the terminal, the page and the notebook say of it alike."""
