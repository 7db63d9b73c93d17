"""Leaves out the positions that are padding, however the model is told which these are."""
