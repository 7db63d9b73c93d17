"""Finds and builds the module that a state dict belongs to."""
