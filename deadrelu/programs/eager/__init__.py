"""Live modules as programs."""
