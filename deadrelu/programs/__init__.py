"""The kinds of runnable model, behind one protocol."""
