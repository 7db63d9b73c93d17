"""Reads pickles: what each asks for, and the modules in it rebuilt without running its code."""
