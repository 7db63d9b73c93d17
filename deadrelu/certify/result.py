"""What was proved as a `Proof`, and the inputs that wake units as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deadrelu.certify.prove import Certified, Witness
from deadrelu.files.writing import replacing
from deadrelu.report import Report, Setting
from deadrelu.report.commands import scan_of_witnesses
from deadrelu.report.proof import Box, Proof, SiteProof


def proof_of(
    report: Report,
    found: Certified,
    box: Box,
    settings: Mapping[str, Setting],
    invocation: Sequence[str] | None,
) -> Proof:
    """The proof, with the model and the data of the scan that found the silent units."""
    sites = tuple(_with_firing(site) if settings.get("all_units") else site for site in found.sites)
    path = settings.get("witnesses")
    has_file = isinstance(path, str) and bool(found.witnesses) and invocation is not None
    return Proof(
        tool=report.tool,
        model=report.model,
        data=report.data,
        settings={"invocation": None if invocation is None else tuple(invocation), **settings},
        box=box,
        sites=sites,
        seconds=found.seconds,
        next_command=scan_of_witnesses(invocation, path) if has_file else None,  # type: ignore[arg-type]
    )


def _with_firing(site: SiteProof) -> SiteProof:
    """The site with the units that fire on the data among the woken ones."""
    silent = {*site.proved_units, *site.open_units}
    return replace(site, woken_units=tuple(unit for unit in range(site.units) if unit not in silent))


def write_witnesses(path: Path, witnesses: Sequence[Witness], names: Sequence[str], *, force: bool) -> None:
    """Write the inputs, one row for each witness, under the names that `forward` takes; and their sites and units."""
    arrays: dict[str, Any] = {}
    if witnesses:
        for place in range(len(witnesses[0].values)):
            name = names[place] if place < len(names) else f"input{place}"
            arrays[name] = np.concatenate([witness.values[place].numpy() for witness in witnesses])
    with replacing(path, force=force) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            **arrays,
            witness_site=np.array([witness.site for witness in witnesses], dtype=np.str_),
            witness_unit=np.array([witness.unit for witness in witnesses], dtype=np.int64),
        )
