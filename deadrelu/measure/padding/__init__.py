"""Leaves out padding, however the model gets to know which positions are padding."""
