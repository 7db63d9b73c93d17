"""Verifies patched files in the test's own process; who needs the fresh one uses the fixture `fresh_process`."""

from __future__ import annotations

import json

import pytest

from deadrelu.remedy import reopen


def reopen_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer the question of `reopen` in this process."""
    monkeypatch.setattr(reopen, "_answer_of_process", lambda question: json.loads(reopen.answer(question)))


@pytest.fixture
def fresh_process() -> None:
    """Let `reopen` start its process."""


@pytest.fixture(autouse=True)
def in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no process, which takes seconds to import torch."""
    if "fresh_process" not in request.fixturenames:
        reopen_here(monkeypatch)
