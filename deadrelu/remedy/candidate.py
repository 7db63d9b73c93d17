"""The ways to swap one site: with `deadrelu patch`, in Python, or by an edit of the source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deadrelu.remedy.edits import edit_for, is_library
from deadrelu.remedy.outputs import default_output, site_output
from deadrelu.remedy.variants import (
    FOLDER,
    GRAPHS,
    RESUME,
    WHOLE_SITE,
    Variant,
    calls_of,
    dead_in_all,
    explain,
    in_file,
    possible,
    successor,
)
from deadrelu.report import Report, Site, SiteStats
from deadrelu.report.advice import Edit, Remedy
from deadrelu.report.commands import id_glob, patch_command, site_glob
from deadrelu.text.wording import count

_CAPPED = {"relu6": "below 0, and keep the cap at 6", "hardtanh": "below 0, and keep the upper bound"}
_IF = {
    "hardtanh": " This works if its lower bound is 0; with any other bound there is no leaky form.",
    "threshold": " This works if its threshold and value are 0; with any others there is no leaky form.",
}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One site of a report, and the ways to swap its activation for one with a slope of `slope`."""

    report: Report
    stats: SiteStats
    slope: float
    root: Path

    def swaps(self) -> Iterator[Remedy]:
        """Every way to swap the site, best first: in the file where possible, else in Python or in the source."""
        variants = possible(self.report, self.stats)
        for variant in variants:
            yield Remedy(title=self._titled(variant), why=self._why(variant), command=self._patch(variant))
        if successor(self.stats.site.op) is None:
            return
        if self.stats.site.swappable and not variants:
            yield Remedy(title=self._titled(WHOLE_SITE), why=self._why(WHOLE_SITE), python=self._statement())
        elif not self.stats.site.swappable:
            yield from self._in_source()

    def elsewhere(self) -> Remedy | None:
        """A pointer to the first sick call of the same module, whose swap includes this one; None if it is this one."""
        first = next(stats for stats in calls_of(self.report, self.stats) if stats.dead)
        if first is self.stats:
            return None
        return Remedy(
            title=f"Swap it together with `{first.site.id}`",
            why=f"Both are calls of the same module `{self.stats.site.module}`: a swap changes all of its calls.",
        )

    def edit(self) -> Edit | None:
        """The edit of the source line; None for the code of a library, which the user should not edit."""
        site, new = self.stats.site, successor(self.stats.site.op)
        if site.source is None or new is None or is_library(site.source.file):
            return None
        return edit_for(site.source, site.op, slope=self.slope, new=new, root=self.root)

    def _titled(self, variant: Variant) -> str:
        """The variant as an instruction that names the replacement."""
        if variant is not WHOLE_SITE:
            return variant.title
        if successor(self.stats.site.op) == "silu":
            return "Swap for SiLU, which is smooth and nowhere flat"
        capped = _CAPPED.get(self.stats.site.op)
        return f"Leak {capped} (slope {self.slope:g})" if capped else f"Swap for a leaky ReLU (slope {self.slope:g})"

    def _why(self, variant: Variant) -> str:
        """Why the variant helps, and which other calls it changes."""
        site, why = self.stats.site, explain(self.report, variant)
        calls = calls_of(self.report, self.stats)
        if self.report.model.format == FOLDER:
            return why
        if "--only-dead-units" in variant.options and len(calls) > 1:
            dead = len(dead_in_all(calls))
            are = "is" if dead == 1 else "are"
            why += f" {dead:,} of {count(site.units, 'unit')} {are} dead in all {len(calls)} calls of `{site.module}`."
        elif site.swappable and site.calls > 1:
            why += (
                f" `{site.module}` is one module called {site.calls} times, so all its calls change together; to change"
                " one alone, first give each call its own module in the code."
            )
        return why + _IF.get(site.op, "")

    def _patch(self, variant: Variant) -> str | None:
        """`deadrelu patch` of this site, with all its calls if the module is shared, into a file of its own."""
        return patch_sites(self.report, [self.stats], variant, self.slope, self.stats.site.id)

    def _statement(self) -> str | None:
        """The swap as one Python statement on the live model; None where the activation's bounds are unknown."""
        module, path = constructed(self.stats.site, self.slope), self.stats.site.module
        return assignment(path, module) if module and path else None

    def _in_source(self) -> Iterator[Remedy]:
        """The edit of a functional call, or where to make it by hand."""
        site, source, new = self.stats.site, self.stats.site.source, successor(self.stats.site.op)
        why = f"The call is in the code, not in the file.{_IF.get(site.op, '')}"
        if source is None:
            yield Remedy(
                title=("Or give" if in_file(self.report, self.stats) else "Give")
                + " the layer another activation where it is built",
                why=f"The call is made inside `{site.module}`, a stock layer of torch: nn.TransformerEncoderLayer takes"
                f" `activation=nn.LeakyReLU({self.slope:g})`; nn.RNN supports relu and tanh only.",
            )
            return
        place = f"{source.file}:{source.line}"
        if is_library(source.file):
            yield Remedy(
                title=f"Swap the call in a subclass of the class that owns `{site.module or 'the model'}`",
                why=f"{why} It is made in a library, at {place}: subclass it, and write torch.nn.functional.{new} in"
                " its forward.",
            )
            return
        edit = self.edit()
        why += " The weights fit the edited code unchanged."
        if others := sum(other.site.source == source for other in self.report.sites) - 1:
            why += f" The same line makes {count(others, 'other site')}, which the edit changes too."
        if edit is None:
            why += f" The call at {place} cannot be rewritten here; there, write torch.nn.functional.{new}."
        title = self._titled(WHOLE_SITE)
        yield Remedy(title=title if edit else f"{title}, at {place}", why=why, edits=(edit,) if edit else ())


def patch_sites(
    report: Report, sites: list[SiteStats], variant: Variant, slope: float, name: str | None = None
) -> str | None:
    """The `deadrelu patch` command for these sites and one variant; `name` gives the output a file of its own."""
    model = report.model.path or ""
    word = variant.word if name or variant.options or report.model.format == FOLDER else "patched"
    output = site_output(model, name, variant.word) if name else default_output(model, variant=word)
    if report.model.format == FOLDER:
        return patch_command(report, "--site=all", f"-o={default_output(model)}")
    if report.model.format in GRAPHS:
        globs = [id_glob(stats.site.id) for stats in sites]
    else:
        globs = list(dict.fromkeys(site_glob(stats.site) for stats in sites))
    silu = any(successor(stats.site.op) == "silu" for stats in sites)
    how = how_to_patch(variant, "silu" if silu else "leaky_relu", slope)
    return patch_command(report, *(f"--site={glob}" for glob in globs), *how, f"-o={output}")


def how_to_patch(variant: Variant, successor: str, slope: float) -> tuple[str, ...]:
    """The options of `patch` for a variant and the activation that replaces the old one, where one does."""
    if variant is RESUME:
        return variant.options
    return (*variant.options, "--with=silu" if successor == "silu" else f"--slope={slope:g}")


def assignment(path: str, module: str) -> str:
    """The Python statement that puts a module at `path` of `model`: `model.layer1[0].relu = nn.LeakyReLU(0.01)`."""
    parts = path.split(".")
    if not all(part.isdecimal() or part.isidentifier() for part in parts):
        return f"model.set_submodule({json.dumps(path)}, {module})"
    place = "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts)
    return f"model{place} = {module}"


def constructed(site: Site, slope: float) -> str | None:
    """The replacement of an activation as a Python expression; None where its bounds are unknown."""
    return {
        "relu": f"nn.LeakyReLU({slope:g})",
        "relu6": f'nn.Sequential(nn.LeakyReLU({slope:g}), nn.Hardtanh(float("-inf"), 6.0))',
        "hardswish": "nn.SiLU()",
    }.get(site.op)
