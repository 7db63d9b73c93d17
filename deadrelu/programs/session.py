"""What holds while a program is watched, of whatever kind it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from deadrelu.programs.process_state import in_users_folder
from deadrelu.programs.turns import Turn, turn


@contextmanager
def session() -> Iterator[Turn]:
    """One scan's turn, in the folder of the user's code, with torch's fused encoder path off.

    That path calls no relu at all. Raises `UsageError` where a scanned model starts a scan.
    """
    with turn() as mine, in_users_folder():
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield mine
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


class one_run:  # noqa: N801  a class is entered in less time than a generator, and this is entered for each batch
    """One forward pass of the session. The model may change the grad mode, but not for longer."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def __enter__(self) -> None:
        self._turn.begin()
        self._mode = torch.is_grad_enabled()

    def __exit__(self, *_: object) -> None:
        torch._C._set_grad_enabled(self._mode)
        self._turn.end()
