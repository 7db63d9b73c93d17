"""Restarting units while a model trains, with what the optimizer remembers of their weights."""
