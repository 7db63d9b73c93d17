"""A built network in the other forms that a scan takes: traced to TorchScript, exported by torch.export."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.networks.network import Built

SAMPLES = 5
"""How many samples the example has from which a form is made."""


class UnfaithfulError(Exception):
    """Torch cannot make this form of the network, or makes one that computes something else."""


def traced(built: Built, folder: Path) -> Path:
    """The network as a TorchScript file."""
    path = folder / f"{built.seed}.pt"
    torch.jit.save(_made(lambda: torch.jit.trace(built.model, built.inputs(SAMPLES), check_trace=False)), path)
    _check(built, _made(lambda: torch.jit.load(path)))
    return path


def exported(built: Built, folder: Path) -> Path:
    """The network as a program of torch.export, for any batch size where torch finds that it has one."""
    path = folder / f"{built.seed}.pt2"
    dynamic = ({0: torch.export.Dim.AUTO},)
    program = _made(lambda: torch.export.export(built.model, (built.inputs(SAMPLES),), dynamic_shapes=dynamic))
    torch.export.save(program, path)
    _check(built, program.module(check_guards=False), SAMPLES)
    return path


FORMS: Mapping[str, Callable[[Built, Path], Path]] = {"traced": traced, "exported": exported}


def _made(make: Callable[[], Any]) -> Any:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            return make()
        except Exception as error:  # a limit of torch's compiler, of which there are many
            raise UnfaithfulError(str(error)) from error


def _check(built: Built, form: Callable[..., Any], *only: int) -> None:
    """Whether the form gives what the network gives, for batches of other sizes too (a trace may fix them)."""
    for samples in only or (1, 6, 7, 64):
        x = built.inputs(samples)
        with torch.no_grad():
            wanted, got = built.model(x.clone()), _made(lambda x=x: form(x.clone()))
        pairs = zip(_tuple(wanted), _tuple(got), strict=True)
        if not all(a.shape == c.shape and torch.allclose(a, c, rtol=1e-3, atol=1e-4, equal_nan=True) for a, c in pairs):
            raise UnfaithfulError(f"another output for {samples} samples")


def _tuple(output: Any) -> tuple[torch.Tensor, ...]:
    return output if isinstance(output, tuple) else (output,)
