"""Writes restarted units back into the checkpoint that they are of, with what its optimizers remember of them.

Everything else in the file stays as it was, bit for bit, so that the loop that wrote it can go on from it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deadrelu.activations import KEEP
from deadrelu.errors import FileError, UsageError
from deadrelu.load.architecture.fit import choose, fit_names
from deadrelu.load.held import held
from deadrelu.load.optimizer import Number, OptimizerState, optimizers_in
from deadrelu.load.sniff import FileKind, sniff
from deadrelu.load.spec import ModelSpec
from deadrelu.load.unpickling.plain import read_plain
from deadrelu.load.weights import states_in
from deadrelu.remedy.apply import Applied
from deadrelu.remedy.choose import SwapOptions
from deadrelu.remedy.moments import UnitEntries, check_state, mend
from deadrelu.report import ModelInfo
from deadrelu.text.wording import count

_WEIGHTS = ("torch-state-dict", "torch-checkpoint", "torch-legacy")


@dataclass(frozen=True)
class TrainingFile:
    """A checkpoint of weights, whole: its `root` as torch reads it, and the key of the weights that are meant."""

    path: Path
    root: Any
    weights_key: str | None

    @classmethod
    def read(cls, original: ModelSpec, info: ModelInfo, options: SwapOptions) -> TrainingFile | None:
        """The file of a model in which nothing but weights will change; None where it is or holds something else."""
        path = Path(str(original.model))
        if not options.reinit or options.to != KEEP or info.format not in _WEIGHTS or original.arch is None:
            return None
        with held(path) as origin:
            if origin.sha256 != info.sha256:
                raise FileError(f"{path} changed while it was read", hint="wait until nothing writes to it")
            try:
                root = read_plain(origin)
            except pickle.UnpicklingError:
                return None
        return cls(path, root, original.weights_key) if states_in(root) else None

    def restart(self, applied: Applied) -> tuple[str, ...]:
        """Put the restarted units into the weights and the optimizers of the file; returns what to say of it.

        Raises `UsageError` where it is not clear what an optimizer remembers of them.
        """
        states = states_in(self.root)
        chosen = choose(states, self.weights_key, self.path, applied.module)
        own = fit_names(chosen, applied.module)
        new = applied.module.state_dict()
        for name in {name for restart in applied.restarts.values() for name in restart.tensors}:
            if name not in own:
                raise UsageError(
                    f"{self.path} has no `{name}`: the model renames its weights while it loads them",
                    hint="leave out --with keep, which writes a whole module",
                )
            own[name].copy_(new[name])
        notes = self._mend(applied)
        if others := [key for key, state in states.items() if key and state is not chosen]:
            notes.append(f"other weights in the file stay as they were: {', '.join(others)}")
        return tuple(notes)

    def _mend(self, applied: Applied) -> list[str]:
        """Mend what the optimizers remember of the restarted units; returns what to say of it."""
        parameters = dict(applied.module.named_parameters())
        names = {id(tensor): name for name, tensor in parameters.items()}
        shapes = {name: tensor.shape for name, tensor in parameters.items()}
        told = [(optimizer, optimizer.names(shapes)) for optimizer in optimizers_in(self.root)]
        mended: dict[str, set[str]] = {}
        for entries, restarted, live in _restarts(applied):
            name = names[id(entries.parameter)]
            found = _remembered(told, name, entries.parameter.shape)
            if found is None:
                continue
            key, kept = found
            check_state([(entries.parameter, kept)], f"the optimizer at {key!r}")
            mend(kept, entries, restarted, live, "live mean")
            mended.setdefault(key, set()).add(name)
        return [
            f"what the optimizer at {key!r} remembers of these units was mended, in {count(len(tensors), 'parameter')}"
            for key, tensors in mended.items()
        ]

    def write(self, path: Path) -> None:
        """Save the whole file under another name, in its own format."""
        zipped = sniff(self.path) is FileKind.TORCH_ZIP
        torch.save(self.root, path, _use_new_zipfile_serialization=zipped)


def _restarts(applied: Applied) -> Iterator[tuple[UnitEntries, Sequence[int], set[int]]]:
    """For each parameter: where its units are in it, which of these were restarted, and which are alive."""
    for path, restart in applied.restarts.items():
        stats = next(stats for stats in applied.sites.values() if stats.site.module == path)
        live = set(range(stats.site.units)) - set(restart.units) - set(stats.dead_units)
        for entries in restart.entries if restart.units else ():
            yield entries, restart.units, live


def _remembered(
    told: Sequence[tuple[OptimizerState, Mapping[Number, str]]], name: str, shape: torch.Size
) -> tuple[str, dict[str, Any]] | None:
    """The key of the optimizer that remembers something of a parameter, and what; None where none does.

    Raises `UsageError` where that is not clear.
    """
    found = [
        (optimizer.key, kept)
        for optimizer, names in told
        for number, kept in optimizer.state.items()
        if names.get(number) == name and kept
    ]
    unclear = [
        optimizer.key
        for optimizer, names in told
        for number in optimizer.numbers
        if number not in names and optimizer.state.get(number) and optimizer.shape(number) in (None, shape)
    ]
    if unclear or len(found) > 1:
        keys = " and ".join(repr(key) for key in dict.fromkeys([*unclear, *(key for key, _ in found)]))
        raise UsageError(
            f"which entry of the optimizer at {keys} is of `{name}` is not clear from its order and its shapes",
            hint="make the optimizer from model.named_parameters(), which puts the names into the file; or patch"
            " a file with the weights alone",
        )
    return found[0] if found else None
