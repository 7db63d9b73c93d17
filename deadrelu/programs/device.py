"""Chooses the device on which a model runs."""

from __future__ import annotations

import torch

from deadrelu.errors import UsageError


def choose_device(name: str | None) -> torch.device | None:
    """The device of that name, the fastest one for "auto", or None for None: wherever the model is.

    Raises `UsageError` if this machine has no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return None
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available.get(name.partition(":")[0], False):
        there = ", ".join(device for device, there in available.items() if there)
        raise UsageError(f"there is no device {name!r} on this machine", hint=f"--device auto, or one of: {there}")
    return torch.device(name)
