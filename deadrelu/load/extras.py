"""Imports the optional packages, and says which extra brings one that is missing."""

from __future__ import annotations

import importlib
from typing import Any

from deadrelu.errors import ArchitectureError

_INSTALL = {
    "accelerate": "pip install 'deadrelu[hf]'",
    "timm": "pip install 'deadrelu[timm]'",
    "transformers": "pip install 'deadrelu[hf]'",
    "torchvision": "pip install torchvision, from where torch was installed",
}


def extra(name: str) -> Any:
    """Import an optional package. Raises `ArchitectureError` that says how to install it."""
    package = name.split(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ArchitectureError(f"{package} cannot be imported: {error}", hint=_INSTALL[package]) from error
