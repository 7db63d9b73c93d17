"""The process-wide settings of a scan: its turn, the folder of the user's code, torch's fused path, the grad mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from deadrelu.programs.process_state import in_users_folder
from deadrelu.programs.turns import Turn, turn


@contextmanager
def session() -> Iterator[Turn]:
    """One scan's turn, in the folder of the user's code, with torch's fused encoder path off: it never calls relu.

    Raises `UsageError` if a scanned model starts a scan.
    """
    with turn() as mine, in_users_folder():
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield mine
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


class one_run:  # noqa: N801  entered for each batch, and a class is faster than a generator
    """One forward pass of the session, after which the grad mode is as before."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def __enter__(self) -> None:
        self._turn.begin()
        self._mode = torch.is_grad_enabled()

    def __exit__(self, *_: object) -> None:
        torch.set_grad_enabled(self._mode)
        self._turn.end()
