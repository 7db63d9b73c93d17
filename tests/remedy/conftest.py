"""Patched files are verified in the test's own process, except in tests that use `fresh_process`."""

from tests.reopening import fresh_process, in_this_process

__all__ = ["fresh_process", "in_this_process"]
