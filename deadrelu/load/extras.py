"""Imports the optional packages, and says which extra brings one that is missing, or what is wrong with it."""

from __future__ import annotations

import importlib
from typing import Any

from deadrelu.errors import ArchitectureError
from deadrelu.programs.packages import import_failure

_EXTRAS = {"accelerate": "hf", "pytorch_lightning": "lightning", "ray": "ray", "timm": "timm", "transformers": "hf"}


def extra(name: str) -> Any:
    """Import an optional package. Raises `ArchitectureError` that names the package and says how to mend it."""
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except Exception as error:  # a torchvision that was built for another torch raises a RuntimeError, and so on
        raise broken(package, error) from error


def broken(package: str, error: Exception) -> ArchitectureError:
    """The error for an optional package that cannot be imported, in whole or in part."""
    message, hint = import_failure(error, package) or (
        f"{package} cannot be imported: {type(error).__name__}: {error}",
        f"`python -c 'import {package}'` shows the whole error",
    )
    if message == f"{package} is not installed" and package in _EXTRAS:
        hint = f"pip install 'deadrelu[{_EXTRAS[package]}]'"
    return ArchitectureError(message, hint=hint)
