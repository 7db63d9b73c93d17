"""What a forward pass is watched for beside the hooks on modules: torch functions, aten operators, both or neither."""

from __future__ import annotations

from collections.abc import Callable

SETTLED = 2
"""From this batch on, only what is needed is watched; before it, everything."""


class WatchState:
    """Decides for each pass whether functions and operators are watched.

    - In the first batch both are, so that every call site is met and the axes of its tensors are tracked.
    - Once settled, functions are where a forward may call one, and operators are where some call is visible to nothing
      else (scripted code, the steps of an RNN).
    - Audits look for calls that were not foreseen. In batches 16, 64, 256, … of a model with forwards of its own,
      functions are watched, and operators too if functions are anyway. A new site makes the batch after it an audit of
      both, since its axes are not known.

    What an audit finds is needed from there on: `need_functions` and `need_operators`.
    """

    def __init__(
        self, *, has_own_forwards: bool, may_call_functions: Callable[[], bool], operators_needed: bool
    ) -> None:
        """`has_own_forwards`: some forward is not torch's; `may_call_functions` reads these when the state settles."""
        self.batch = 0
        self.functions = self.operators = self.tracks_axes = False
        self.functions_found = False
        self._has_own_forwards = self._functions_needed = has_own_forwards
        self._may_call_functions = may_call_functions
        self._operators_needed = operators_needed

    def start_batch(self, *, is_waiting: bool) -> None:
        """Begin a pass; `is_waiting`: some site was met whose axes are not known."""
        self.batch += 1
        if self.batch == SETTLED:
            self._settle()
        audit = self._has_own_forwards and _is_audited(self.batch)
        self.tracks_axes = self.batch == 1 or is_waiting or (audit and self._functions_needed)
        self.functions = self._functions_needed or self.tracks_axes or audit
        self.operators = self._operators_needed or self.tracks_axes

    def _settle(self) -> None:
        """From here on functions are watched only where one was called, or a forward may call one."""
        self._functions_needed = self.functions_found or (self._has_own_forwards and self._may_call_functions())

    def need_functions(self) -> bool:
        """An activation was called as a function. Returns whether earlier passes may have missed it."""
        is_late = not self._functions_needed and self.batch > 1
        self._functions_needed = self.functions_found = True
        return is_late

    def need_operators(self) -> bool:
        """An activation was visible to operators alone. Returns whether earlier passes may have missed it."""
        is_late = not self._operators_needed and self.batch > 1
        self._operators_needed = True
        return is_late


def _is_audited(batch: int) -> bool:
    """Whether the batch of this number, from 1, is 16, 64, 256, …: so seldom that audits cost next to nothing."""
    return batch >= 16 and batch & (batch - 1) == 0 and batch.bit_length() % 2 == 1
