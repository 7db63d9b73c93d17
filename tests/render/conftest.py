"""Golden files, which a person has read and approved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with its golden file byte by byte; with `--regenerate`, write the file instead."""

    def check(name: str, text: str) -> None:
        path = GOLDENS / name
        if request.config.getoption("--regenerate"):
            path.write_bytes(text.encode())
        assert text.encode() == path.read_bytes(), f"{name} differs: read the difference, then run with --regenerate"

    return check
