"""Remedies for all sick sites of a model at once: one command for each way to patch, best first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from deadrelu.remedy.candidate import Candidate, assignment, constructed, how_to_patch, patch_sites
from deadrelu.remedy.outputs import default_output
from deadrelu.remedy.variants import (
    FOLDER,
    GRAPHS,
    VARIANTS,
    WHOLE_SITE,
    Variant,
    explain,
    in_file,
    possible,
    successor,
)
from deadrelu.report import Report, SiteStats
from deadrelu.report.advice import Edit, Remedy
from deadrelu.report.commands import patch_command, prove_command, prune_command
from deadrelu.text.wording import count

_FEW = 4
"""Up to this many modules are swapped with a line each, more with a loop."""

_WEIGHTS = ("torch-state-dict", "torch-checkpoint", "safetensors")


def whole_model(sick: Sequence[Candidate]) -> Iterator[Remedy]:
    """The remedies for all sick sites together, best first; what helps fewer than half is left out."""
    if not sick:
        return
    report, slope = sick[0].report, sick[0].slope
    held = [candidate.stats for candidate in sick if in_file(report, candidate.stats)]
    for variant in VARIANTS[:-1]:  # one more activation to try is for a site by itself
        able = [stats for stats in held if variant in possible(report, stats)]
        if 2 * len(able) >= len(held) > 0 and (command := _command(report, able, variant, slope)):
            why = explain(report, variant) + (_woken(able) if "--reinit" in variant.options else "")
            yield Remedy(title=_titled(variant, able, sick, slope), why=why, command=command)
    if held and report.model.format != FOLDER:
        yield from _removal(report)
    called = [each for each in sick if not each.stats.site.swappable and each.stats.site.source is not None]
    if called:
        yield from _calls(report, called, slope)
    if held and report.model.format in (*_WEIGHTS, "live module"):
        yield from _in_python(held, slope)


def _woken(able: Sequence[SiteStats]) -> str:
    """How many of the dead units are proved to be for a restart, if that is known."""
    woken, dead = sum(len(stats.woken_units or ()) for stats in able), sum(stats.dead for stats in able)
    return f" An input in the data's range wakes {woken:,} of the {count(dead, 'dead unit')}." if woken else ""


def _removal(report: Report) -> Iterator[Remedy]:
    """The way to a smaller model: by what is proved, or by the proof that is missing."""
    known = [stats.proved_units for stats in report.sites if stats.proved_units is not None]
    proved = sum(map(len, known))
    if not known and (command := prove_command(report)):
        yield Remedy(
            title="Or see which no input can wake: `deadrelu prune --proved` removes them",
            why="The outputs stay the same to the last bit. What can wake is for --reinit.",
            command=command,
        )
    if proved and (command := prune_command(report, "--proved", "--rounding")):
        yield Remedy(
            title=f"Or remove the {count(proved, 'dead unit')} that no input in the data's range wakes",
            why="The outputs move by rounding alone; without --rounding fewer go, and no bit changes.",
            command=command,
        )


def _command(report: Report, able: Sequence[SiteStats], variant: Variant, slope: float) -> str | None:
    """One command for these sites, without `--site` where they are the default of `patch`."""
    narrowed = report.settings.get("sites") or report.settings.get("skip_sites")
    if report.model.format == FOLDER or narrowed or {successor(stats.site.op) for stats in able} != {"leaky_relu"}:
        common = Counter(successor(stats.site.op) for stats in able).most_common(1)[0][0]
        return patch_sites(report, [s for s in able if successor(s.site.op) == common], variant, slope)
    model = report.model.path or ""
    output = default_output(model, variant=variant.word if variant.options else "patched")
    return patch_command(report, *how_to_patch(variant, "leaky_relu", slope), f"-o={output}")


def _titled(variant: Variant, able: Sequence[SiteStats], sick: Sequence[Candidate], slope: float) -> str:
    """The variant as an instruction for the whole model, with how many of the sick sites it can swap."""
    if variant is WHOLE_SITE:
        silu = all(successor(stats.site.op) == "silu" for stats in able)
        title = f"Swap each sick site for {'SiLU' if silu else f'a leaky ReLU (slope {slope:g})'}"
    else:
        title = variant.title
    return title if len(able) == len(sick) else f"{title} ({len(able)} of {count(len(sick), 'site')})"


def _calls(report: Report, called: Sequence[Candidate], slope: float) -> Iterator[Remedy]:
    """Remedies for functional calls: edits of the source, and the way through torch.export."""
    edits: list[Edit] = []
    for candidate in called:
        edit = candidate.edit()
        if edit is not None and edit not in edits:
            edits.append(edit)
    if edits:
        yield Remedy(
            title=f"Swap {count(len(edits), 'call')} in the code",
            why="These are functional calls, which are not in the file. The weights fit the edited code.",
            edits=tuple(edits),
        )
    if report.model.path is not None and report.model.format not in (*GRAPHS, FOLDER):
        output = default_output(report.model.path, to_pt2=True)
        command = patch_command(report, "--to=pt2", f"--slope={slope:g}", f"-o={output}")
        if command:
            yield Remedy(
                title="Or export the model, and swap the calls there",
                why="torch.export turns each call into a node of a graph, and the swap is written as .pt2.",
                command=command,
            )


def _in_python(held: Sequence[SiteStats], slope: float) -> Iterator[Remedy]:
    """The swap in the user's own code, after the model is built, so that no file of a library has to be edited."""
    new = {stats.site.module: module for stats in held if (module := constructed(stats.site, slope))}
    new.pop("", None)  # the model itself
    lines = [assignment(path, module) for path, module in new.items()]
    if len(lines) > _FEW and len(set(new.values())) == 1:
        lines = [f"for path in {json.dumps(list(new))}: model.set_submodule(path, {next(iter(new.values()))})"]
    if lines:
        yield Remedy(
            title="Or in your own code, right after the model is built",
            why="",
            python="\n".join(["from torch import nn", *lines]),
        )
