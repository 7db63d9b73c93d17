"""Keeps the masks that are known in one forward pass, and chooses the one that holds at a site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from deadrelu.measure.padding.found import LeftOut, PaddingFound
from deadrelu.measure.padding.layers import LayerCall, masked_layers, unobserved, watch_layers
from deadrelu.measure.padding.named import Mask, lengths_of_inputs, masks_in
from deadrelu.measure.padding.tokens import can_be_read
from deadrelu.programs.eager.calls import ON_MODULES, Hooks
from deadrelu.programs.program import Batch, CallSite, Features, Program

Release = Callable[[CallSite, Tensor], None]


class Padding:
    """The masks that are known in the current forward pass.

    A mask that the model makes itself is known once it is passed to a layer. Pre-activations from before are held back
    until then, or until the first such layer gets none.
    """

    def __init__(self, program: Program, release: Release, hooks: Hooks = ON_MODULES) -> None:
        """`release` gets what was held back, as soon as the masks for it are known."""
        self._program, self._hooks = program, hooks
        self._release = release
        self._modules = list(program.modules()) if program.kind == "eager" else []
        self._layers = list(masked_layers(self._modules))
        self._may_wait = bool(self._layers)
        self._only_packs = all(isinstance(one.module, nn.RNNBase) for one in self._layers)
        self._waits = self._is_releasing = self._has_run = False
        self._drop_inner: Callable[[], None] = lambda: None
        self._batch = Batch(samples=0)
        self._given: list[Mask] = []
        self._lengths: set[int] = set()
        self._passed: list[Mask] = []
        self._bare: set[str] = set()
        self._held: list[tuple[CallSite, Tensor]] = []
        self._used: dict[str, Mask] = {}
        self._left_out: dict[str, tuple[int, int]] = {}
        self._doubtful: dict[str, None] = {}
        self._suspects: dict[tuple[str, int], None] = {}
        self._suspected: dict[tuple[str, int], None] = {}
        self.is_idle = True
        """Whether every position counts: no mask is known in this pass, and none is awaited."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what the model passes to its layers while the block runs."""
        with ExitStack() as stack:
            self._drop_inner = stack.enter_context(watch_layers(self._layers, self._on_call, self._hooks))
            for path, module in self._modules:
                if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                    self._suspect(stack, path, module, module.padding_idx)
            yield

    @property
    def found(self) -> PaddingFound:
        """What was left out so far, and what is open."""
        return PaddingFound(
            left_out=tuple(
                LeftOut(mask=by, padded=padded, positions=positions)
                for by, (padded, positions) in self._left_out.items()
            ),
            suspects=tuple(self._suspected),
            doubtful=tuple(self._doubtful),
        )

    def start(self, batch: Batch) -> None:
        """Begin a forward pass over `batch`: read the masks among its arguments."""
        given = dict(zip(self._program.parameter_names, batch.args, strict=False)) | dict(batch.kwargs)
        self._batch = batch
        self._given = [m for m in masks_in(given, axis=batch.axis) if len(m.tokens.real) == batch.samples]
        self._lengths = lengths_of_inputs(given, axis=batch.axis)
        self._passed.clear()
        self._bare.clear()
        self._used.clear()
        self._suspects.clear()
        self._held.clear()
        self._waits = self._may_wait and not self._given
        self.is_idle = not self._waits and not any(mask.tokens.padded for mask in self._given)

    def finish(self, *, is_counted: bool) -> None:
        """End the pass: release what is held, and add up what was left out if the pass `is_counted`."""
        self._waits = False
        self._release_held(None)
        if not self._has_run:
            self._has_run = True
            self._drop_inner()
        if not is_counted:
            return
        for mask in (*self._given, *self._passed):
            if not mask.tokens.padded:
                self._used.setdefault(mask.name, mask)
        if self._only_packs and not self._passed:
            self._may_wait = False  # a model that packs its sequences does so in every pass
        for name, mask in self._used.items():
            padded, positions = self._left_out.get(name, (0, 0))
            self._left_out[name] = padded + mask.tokens.padded, positions + mask.tokens.positions
        if not self._given and not self._passed:
            self._suspected |= self._suspects

    def holds(self, site: CallSite, z: Tensor, features: Features) -> bool:
        """Hold back a pre-activation if a mask that is not known yet may apply to it; return whether it is held."""
        if not self._waits or not _has_time(z, features, self._batch.samples):
            return False
        self._held.append((site, z.clone()))
        return True

    def real(self, site: CallSite, z: Tensor, features: Features) -> tuple[Iterator[Tensor], int] | None:
        """The data in a pre-activation, in parts, and of how many sequences it is; None where all of it is data."""
        if not z.ndim:
            return None
        chosen = self._choose(site, z, features)
        if chosen is None or not chosen[0].tokens.padded:
            return None
        mask, arranged = chosen
        used = self._used.get(mask.name)
        if used is None or used.tokens.positions < mask.tokens.positions:
            self._used[mask.name] = mask
        parts = mask.tokens.parts(arranged)
        if z.ndim == 3 and features.axes[0] % 3 == 1:
            parts = (part.transpose(1, 2) for part in parts)  # the features back where they were
        return parts, mask.tokens.sequences

    def _choose(self, site: CallSite, z: Tensor, features: Features) -> tuple[Mask, Tensor] | None:
        """The mask that holds at a site, with `z` arranged by it."""

        def fitting(masks: list[Mask]) -> list[tuple[Mask, Tensor]]:
            found = []
            for mask in masks:
                first = mask.time_first or (not mask.scope and self._batch.axis == 1)
                arranged = mask.tokens.arrange(z, features, time_first=first)
                if arranged is not None:
                    found.append((mask, arranged))
            return found

        path = site.module
        # The latest comes first: an encoder may be called again, with another mask.
        inside = [mask for mask in reversed(self._passed) if _is_in(path, mask.scope) and _is_on_side(path, mask)]
        if fits := fitting(sorted(inside, key=lambda mask: len(mask.scope), reverse=True)):
            return self._unambiguous(site, fits[:1])
        if fits := fitting([mask for mask in self._given if _is_on_side(path, mask)]):
            return self._unambiguous(site, fits)
        if any(_is_in(path, scope) for scope in self._bare):
            return None
        fits = fitting([mask for mask in self._passed if not _is_in(path, mask.scope)])
        if len(fits) > 1 and not self._is_releasing:
            return fits[-1]  # it ran after all of them, most likely on the output of the last
        return self._unambiguous(site, fits)

    def _unambiguous(self, site: CallSite, fits: list[tuple[Mask, Tensor]]) -> tuple[Mask, Tensor] | None:
        """The one mask that fits, or the first of several equal ones; None where they differ."""
        if not fits:
            return None
        first = fits[0][0]
        beside = first.side is not None and _side_of(site.module) is None
        rivalled = beside and first.tokens.real.shape[1] in first.rivals and len({m.side for m, _ in fits}) == 1
        if rivalled or not all(first.tokens.equals(mask.tokens) for mask, _ in fits):
            self._doubtful[site.id] = None
            return None
        return fits[0]

    def _on_call(self, call: LayerCall) -> None:
        """Note the masks of a layer that is about to be called."""
        if self._given and all(mask.side is None for mask in self._given):
            return
        if not call.masks and not self._held:
            self._bare.update(call.bare)
            self._stop_waiting()
            return
        with unobserved():
            self._add_masks(call)

    def _add_masks(self, call: LayerCall) -> None:
        for mask in (mask for given in call.masks for mask in given.at_lengths(self._lengths)):
            outer = (*self._given, *(m for m in self._passed if _is_in(mask.scope, m.scope)))
            known = next((m for m in outer if m.tokens.equals(mask.tokens)), None)
            self._passed.append(mask if known is None else mask.as_of(known))
            self.is_idle = self.is_idle and not mask.tokens.padded
        self._bare.difference_update(mask.scope for mask in call.masks)
        self._bare.update(call.bare)
        if self._held:
            self._release_held(None if call.masks else call.input)
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        """Hold nothing back from here on: no more masks are expected in this pass."""
        if self._waits:
            self._waits = False
            self.is_idle = not any(mask.tokens.padded for mask in self._passed)

    def _release_held(self, x: object) -> None:
        """Release what has the layout of `x`, which has no mask; everything if `x` is None."""
        held, self._held = self._held, []
        for site, z in held:
            if isinstance(x, Tensor) and x.ndim == 3 and z.shape[:2] != x.shape[:2] and z.numel() % x[..., 0].numel():
                self._held.append((site, z))
                continue
            self._is_releasing = True
            try:
                self._release(site, z)
            finally:
                self._is_releasing = False

    def _suspect(self, stack: ExitStack, path: str, module: nn.Embedding, index: int) -> None:
        """Note where the padding_idx of an embedding occurs in its input."""

        def hook(_: nn.Module, args: tuple[Any, ...], __: object) -> None:
            key = path, index
            if not args or key in self._suspected or key in self._suspects or self._given or not can_be_read(args[0]):
                return
            with unobserved():
                if args[0].ndim > 1 and bool((args[0] == index).any()):
                    self._suspects[key] = None

        stack.callback(self._hooks.before(module, hook).remove)


def _has_time(z: Tensor, features: Features, samples: int) -> bool:
    """Whether a pre-activation may be laid out by sequences: `(N, T, F)` in any order, or flattened."""
    if z.ndim == 3:
        return samples in (z.shape[0], z.shape[1])
    return z.ndim == 2 and len(z) > samples > 0 and len(z) % samples == 0 and features.axes in ((1,), (-1,))


def _is_in(path: str, scope: str) -> bool:
    """Whether the module at `path` runs inside of the one at `scope`."""
    return not scope or path == scope or path.startswith(f"{scope}.")


def _side_of(path: str) -> str | None:
    """The half of an encoder–decoder model that a module belongs to, by its path."""
    parts = path.split(".")
    return next((side for side in ("decoder", "encoder") if any(side in part for part in parts)), None)


def _is_on_side(path: str, mask: Mask) -> bool:
    """Whether a mask may apply to the input of a module: one of the other half does not."""
    return mask.side is None or _side_of(path) in (None, mask.side)
