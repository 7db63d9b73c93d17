"""Files of every kind, and harmless payloads that leave a mark if they are run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


class Call:
    """Pickles as a call of `function`: what it does when the file is unpickled, and only then."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.args


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that only a payload would make."""
    return tmp_path / "it-ran"


@pytest.fixture
def payload(marker: Path) -> Call:
    """A call that makes the marker."""
    return Call(exec, f"open({str(marker)!r}, 'w').close()")


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Save with torch.save and give the path."""

    def write(value: Any, name: str = "model.pt", **options: Any) -> Path:
        torch.save(value, tmp_path / name, **options)
        return tmp_path / name

    return write


@pytest.fixture
def call() -> type[Call]:
    """The class that pickles as a call."""
    return Call
