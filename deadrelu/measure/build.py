"""Which counter this installation has: answered without torch, for `deadrelu --version`."""

from __future__ import annotations

import os
from importlib.util import find_spec


def has_native_counter() -> bool:
    """Whether the counter in C was built, and `DEADRELU_NATIVE=0` does not switch it off."""
    return os.environ.get("DEADRELU_NATIVE") != "0" and find_spec("deadrelu.measure._count") is not None
