"""What taps a forward pass for its gradients: it gets the tensors of each activation call as autograd knows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from deadrelu.programs.program import CallSite

Real = Callable[[Tensor], "Tensor | None"]
"""Keeps the rows of a tensor that hold samples; None where these cannot be told from the others."""


class Tap:
    """Gets nothing, and passes have no gradients. A subclass is on in the passes of which it takes the gradients."""

    is_on = False

    def enter(self, site: CallSite, z: Tensor, real: Real | None = None) -> None:
        """Take the pre-activation of a call that was observed."""

    def leave(self, output: object) -> None:
        """Take the output of the call that this thread entered last, if it has not been taken."""

    def left(self, output: Any) -> Any:
        """The output, which it takes."""
        self.leave(output)
        return output

    def leave_below(self, output: object) -> None:
        """Do the same inside of an operator, where autograd does not know the output yet."""

    @contextmanager
    def hooks(self, modules: Iterable[nn.Module]) -> Iterator[None]:
        """Take the outputs of these modules while the block runs."""
        del modules
        yield


NO_TAP = Tap()
"""The tap of passes without gradients."""
