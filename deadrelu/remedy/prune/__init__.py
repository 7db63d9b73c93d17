"""Removing dead units, where the output stays the same to the last bit."""
