"""Keeps what is known of the padding in one forward pass, and decides which mask holds at a site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from deadrelu.measure.padding.found import LeftOut, PaddingFound
from deadrelu.measure.padding.inside import Handed, hearing, speakers, unseen
from deadrelu.measure.padding.named import Mask, lengths_of_inputs, masks_in
from deadrelu.measure.padding.tokens import can_be_read
from deadrelu.programs.program import Batch, CallSite, Features, Program

Release = Callable[[CallSite, Tensor], None]


class Padding:
    """The masks that are known in the forward pass at work.

    A mask that the model makes itself is known once it is handed to a layer. What ran before is held back until then,
    or until the first such layer was given none.
    """

    def __init__(self, program: Program, release: Release) -> None:
        """`release` is called with what was held back, as soon as all is known that can be known of it."""
        self._program = program
        self._release = release
        self._modules = list(program.modules()) if program.kind == "eager" else []
        self._speakers = list(speakers(self._modules))
        self._may_wait = bool(self._speakers)
        self._only_packs = all(isinstance(one.module, nn.RNNBase) for one in self._speakers)
        self._waits = self._is_releasing = self._is_settled = False
        self._settle: Callable[[], None] = lambda: None
        self._batch = Batch(samples=0)
        self._given: list[Mask] = []
        self._lengths: set[int] = set()
        self._handed: list[Mask] = []
        self._bare: set[str] = set()
        self._held: list[tuple[CallSite, Tensor]] = []
        self._used: dict[str, Mask] = {}
        self._left_out: dict[str, tuple[int, int]] = {}
        self._doubtful: dict[str, None] = {}
        self._suspects: dict[tuple[str, int], None] = {}
        self._suspected: dict[tuple[str, int], None] = {}
        self.is_idle = True
        """Whether everything counts: no mask is known in this pass, and none is waited for."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Listen to what the model hands to its layers, while the block runs."""
        with ExitStack() as stack:
            self._settle = stack.enter_context(hearing(self._speakers, self._hear))
            for path, module in self._modules:
                if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                    self._suspect(stack, path, module, module.padding_idx)
            yield

    @property
    def found(self) -> PaddingFound:
        """What was left out of the passes so far, and what is open."""
        return PaddingFound(
            left_out=tuple(
                LeftOut(said_by=by, padded=padded, places=places) for by, (padded, places) in self._left_out.items()
            ),
            suspects=tuple(self._suspected),
            doubtful=tuple(self._doubtful),
        )

    def start(self, batch: Batch) -> None:
        """A forward pass over `batch` begins: read the masks among what the model is given."""
        given = dict(zip(self._program.parameter_names, batch.args, strict=False)) | dict(batch.kwargs)
        self._batch = batch
        self._given = [m for m in masks_in(given, axis=batch.axis) if len(m.tokens.real) == batch.samples]
        self._lengths = lengths_of_inputs(given, axis=batch.axis)
        self._handed.clear()
        self._bare.clear()
        self._used.clear()
        self._suspects.clear()
        self._held.clear()
        self._waits = self._may_wait and not self._given
        self.is_idle = not self._waits and not any(mask.tokens.padded for mask in self._given)

    def finish(self, *, is_counted: bool) -> None:
        """The pass is over: release what is held, and add up what was left out if the pass `is_counted`."""
        self._waits = False
        self._release_held(None)
        if not self._is_settled:
            self._is_settled = True
            self._settle()
        if not is_counted:
            return
        for mask in (*self._given, *self._handed):
            if not mask.tokens.padded:
                self._used.setdefault(mask.said_by, mask)
        if self._only_packs and not self._handed:
            self._may_wait = False  # a model that packs its sequences always does so
        for by, mask in self._used.items():
            padded, places = self._left_out.get(by, (0, 0))
            self._left_out[by] = padded + mask.tokens.padded, places + mask.tokens.places
        if not self._given and not self._handed:
            self._suspected |= self._suspects

    def holds(self, site: CallSite, z: Tensor, features: Features) -> bool:
        """Hold back a pre-activation, if a mask that is not known yet may speak of its positions."""
        if not self._waits or not _has_time(z, features, self._batch.samples):
            return False
        self._held.append((site, z.clone()))
        return True

    def real(self, site: CallSite, z: Tensor, features: Features) -> tuple[Iterator[Tensor], int] | None:
        """What of a pre-activation is data, in parts, and of how many sequences; None where all of it is."""
        if not z.ndim:
            return None
        chosen = self._chosen(site, z, features)
        if chosen is None or not chosen[0].tokens.padded:
            return None
        mask, arranged = chosen
        used = self._used.get(mask.said_by)
        if used is None or used.tokens.places < mask.tokens.places:
            self._used[mask.said_by] = mask
        parts = mask.tokens.parts(arranged)
        if z.ndim == 3 and features.axes[0] % 3 == 1:
            parts = (part.transpose(1, 2) for part in parts)  # the features stand where they did
        return parts, mask.tokens.sequences

    def _chosen(self, site: CallSite, z: Tensor, features: Features) -> tuple[Mask, Tensor] | None:
        """The mask that holds at a site, with `z` as it is laid out by it."""

        def fitting(masks: list[Mask]) -> list[tuple[Mask, Tensor]]:
            found = []
            for mask in masks:
                first = mask.time_first or (not mask.scope and self._batch.axis == 1)
                arranged = mask.tokens.arranged(z, features, time_first=first)
                if arranged is not None:
                    found.append((mask, arranged))
            return found

        path = site.module
        # The last that was handed comes first: an encoder may be called again, with another mask.
        inside = [mask for mask in reversed(self._handed) if _is_in(path, mask.scope) and _is_on_side(path, mask)]
        if fits := fitting(sorted(inside, key=lambda mask: len(mask.scope), reverse=True)):
            return self._agreed(site, fits[:1])
        if fits := fitting([mask for mask in self._given if _is_on_side(path, mask)]):
            return self._agreed(site, fits)
        if any(_is_in(path, scope) for scope in self._bare):
            return None
        fits = fitting([mask for mask in self._handed if not _is_in(path, mask.scope)])
        if len(fits) > 1 and not self._is_releasing:
            return fits[-1]  # it ran after all of them, most likely on what the last has made
        return self._agreed(site, fits)

    def _agreed(self, site: CallSite, fits: list[tuple[Mask, Tensor]]) -> tuple[Mask, Tensor] | None:
        """The one mask that fits, or the first of several that say the same; None where there is a doubt."""
        if not fits:
            return None
        first = fits[0][0]
        beside = first.side is not None and _side_of(site.module) is None
        rivalled = beside and first.tokens.real.shape[1] in first.rivals and len({m.side for m, _ in fits}) == 1
        if rivalled or not all(first.tokens.equals(mask.tokens) for mask, _ in fits):
            self._doubtful[site.id] = None
            return None
        return fits[0]

    def _hear(self, handed: Handed) -> None:
        """A layer is about to be called."""
        if self._given and all(mask.side is None for mask in self._given):
            return
        if not handed.masks and not self._held:
            self._bare.update(handed.bare)
            self._stop_waiting()
            return
        with unseen():
            self._take(handed)

    def _take(self, handed: Handed) -> None:
        for mask in (mask for given in handed.masks for mask in given.at_lengths(self._lengths)):
            outer = (*self._given, *(m for m in self._handed if _is_in(mask.scope, m.scope)))
            known = next((m for m in outer if m.tokens.equals(mask.tokens)), None)
            self._handed.append(mask if known is None else mask.as_of(known))
            self.is_idle = self.is_idle and not mask.tokens.padded
        self._bare.difference_update(mask.scope for mask in handed.masks)
        self._bare.update(handed.bare)
        if self._held:
            self._release_held(None if handed.masks else handed.input)
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        """All is known that can be known of what comes now."""
        if self._waits:
            self._waits = False
            self.is_idle = not any(mask.tokens.padded for mask in self._handed)

    def _release_held(self, x: object) -> None:
        """Release what is laid out as `x` is, which no mask speaks of; all that is held if `x` is None."""
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
        """Notice where the padding_idx of an embedding occurs in what it is given."""

        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            key = path, index
            if not args or key in self._suspected or key in self._suspects or self._given or not can_be_read(args[0]):
                return
            with unseen():
                if args[0].ndim > 1 and bool((args[0] == index).any()):
                    self._suspects[key] = None

        stack.callback(module.register_forward_pre_hook(hook).remove)


def _has_time(z: Tensor, features: Features, samples: int) -> bool:
    """Whether a pre-activation may be laid out by sequences: `(N, T, F)` in any order, or flattened."""
    if z.ndim == 3:
        return samples in (z.shape[0], z.shape[1])
    return z.ndim == 2 and len(z) > samples > 0 and len(z) % samples == 0 and features.axes in ((1,), (-1,))


def _is_in(path: str, scope: str) -> bool:
    """Whether what stands at a path runs inside of the module at another."""
    return not scope or path == scope or path.startswith(f"{scope}.")


def _side_of(path: str) -> str | None:
    """The half of an encoder–decoder model in which a module stands, by its path."""
    parts = path.split(".")
    return next((side for side in ("decoder", "encoder") if any(side in part for part in parts)), None)


def _is_on_side(path: str, mask: Mask) -> bool:
    """Whether a mask may speak of what a module sees: one of the other half does not."""
    return mask.side is None or _side_of(path) in (None, mask.side)
