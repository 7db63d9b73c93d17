"""The monitor in the loops of other frameworks. Nothing here imports them before it is used."""
