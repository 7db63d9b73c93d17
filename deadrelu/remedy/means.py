"""The means to swap one site: by `deadrelu patch`, by a statement in Python, by an edit of the source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deadrelu.activations import BY_NAME
from deadrelu.commands import id_glob, patch_command, site_glob
from deadrelu.remedies import Edit, Remedy
from deadrelu.remedy.edits import edit_for
from deadrelu.report import Report, SiteStats
from deadrelu.wording import count

_BEST = ("leaky_relu", "silu")
"""What takes the place of an activation, the first that suits."""

_GRAPHS = ("torchscript", "torch-export")
_FOLDER = "huggingface"

_CAPPED = {"relu6": "below 0, and keep the cap at 6", "hardtanh": "below 0, and keep the upper bound"}
_IF = {
    "hardtanh": " This holds if its lower bound is 0; with another one there is no leaky form.",
    "threshold": " This holds if its threshold and value are 0; with others there is no leaky form.",
}


@dataclass(frozen=True, kw_only=True)
class Means:
    """One site, and the means to swap its activation by: for which function, in which words, with which command."""

    report: Report
    stats: SiteStats
    slope: float
    root: Path

    @property
    def new(self) -> str | None:
        """The function of torch.nn.functional that takes its place; None for hardsigmoid and the shrinkages."""
        kind = BY_NAME.get(self.stats.site.op)
        return next((name for name in _BEST if kind and name in kind.swaps), None)

    @property
    def title(self) -> str:
        """The swap as an instruction."""
        if self.new == "silu":
            return "Swap for SiLU, which is smooth and nowhere flat"
        capped = _CAPPED.get(self.stats.site.op)
        return f"Leak {capped} (slope {self.slope:g})" if capped else f"Swap for a leaky ReLU (slope {self.slope:g})"

    def only_dead(self) -> Remedy | None:
        """A leak in the dead units alone, where `nn.PReLU` can do that: of a ReLU whose units are on axis 1.

        Of a shared module these are the units that are dead in all of its calls.
        """
        site, calls = self.stats.site, self._calls()
        dead = set.intersection(*(set(stats.dead_units) for stats in calls))
        on_axis = all(
            stats.site.feature_axis in (1, None) and stats.site.units == site.units and not stats.site.is_guessed
            for stats in calls
        )
        if site.op != "relu" or not site.swappable or not on_axis or not dead or not self._modules:
            return None
        live = site.units - len(dead)
        rest = "the live one stays" if live == 1 else f"each of the other {live:,} stays"
        which = f"unit {min(dead)}" if len(dead) == 1 else f"those {len(dead):,} units"
        where = f" in all {len(calls)} calls of `{site.module}`" if len(calls) > 1 else ""
        return Remedy(
            title=f"Leak in {which} alone",
            why=f"{count(len(dead), 'unit')} of {site.units:,} {'is' if len(dead) == 1 else 'are'} dead{where}: with a"
            f" slope there alone, {rest} as it is, bit for bit.",
            command=self._patch("--only-dead-units"),
        )

    def elsewhere(self) -> Remedy | None:
        """Where the swap of this site is told already: at the first sick call of the same module."""
        first = next(stats for stats in self._calls() if stats.dead)
        if first is self.stats:
            return None
        return Remedy(
            title=f"Swap it together with `{first.site.id}`",
            why=f"Both are calls of the one module `{self.stats.site.module}`: a swap changes all of its calls.",
        )

    def whole(self, why: str) -> Iterator[Remedy]:
        """The swap of the whole site, by the best means that there is; the means for a shared module name all calls."""
        site = self.stats.site
        if self.new is None:
            return
        why += _IF.get(site.op, "")
        if not site.swappable:
            yield from self._in_source(why)
            return
        if self.report.model.format == _FOLDER:
            why += " A Hugging Face folder names its activation in config.json, so that all its sites change together."
        elif site.calls > 1 and self._modules:
            why += (
                f" `{site.module}` is one module called {site.calls} times, so that all its calls change together; to"
                " change one alone, give each call its own module in the code first."
            )
        if self._file:
            yield Remedy(title=self.title, why=why, command=self._patch())
        elif (statement := self._statement()) is not None:
            yield Remedy(title=self.title, why=why, command=statement)
        else:
            yield Remedy(title=self.title, why=why)

    def reinit(self, why: str) -> Remedy | None:
        """The swap with a fresh start for the dead units; None where no file can be patched so."""
        if self.new is None or not self.stats.site.swappable or not self._modules:
            return None
        return Remedy(title=f"{self.title}, and re-initialise the dead units", why=why, command=self._patch("--reinit"))

    def other(self) -> Remedy | None:
        """Activations with a slope that is learnt, or a smooth tail."""
        if self.stats.site.op != "relu" or not self.stats.site.swappable or not self._modules:
            return None
        return Remedy(
            title="Try an activation whose negative side is learnt or smooth",
            why="PReLU learns its slope (He et al. 2015); ELU is smooth and saturates below 0 (Clevert et al. 2016):"
            " `--with elu`. Both change the live units too, and need fine-tuning.",
            command=self._patch("--with", "prelu"),
        )

    def _calls(self) -> list[SiteStats]:
        """The measured calls of the site's module."""
        site = self.stats.site
        every = (stats for stats in self.report.sites if stats.site.swappable and stats.site.module == site.module)
        return list(every) if site.swappable else [self.stats]

    @property
    def _file(self) -> bool:
        """Whether there is a model file to patch."""
        return self.report.model.path is not None

    @property
    def _modules(self) -> bool:
        """Whether there is a file of modules to patch, rather than a graph or a config."""
        return self._file and self.report.model.format not in (*_GRAPHS, _FOLDER)

    def _patch(self, *options: str) -> str:
        """`deadrelu patch` of this site, with all its calls if the module is shared."""
        if self.report.model.format == _FOLDER:
            return patch_command(self.report, "--sites", "all")
        if self.report.model.format in _GRAPHS:
            return patch_command(self.report, "--sites", id_glob(self.stats.site.id), "--slope", f"{self.slope:g}")
        with_ = ("--with", "silu") if self.new == "silu" else ()
        slope = () if with_ else ("--slope", f"{self.slope:g}")
        chosen = ("--sites", site_glob(self.stats.site))
        return patch_command(self.report, *chosen, *with_, *options, *slope)

    def _statement(self) -> str | None:
        """The swap as one Python statement on the live model; None where the bounds of the activation are not known."""
        module = {
            "relu": f"nn.LeakyReLU({self.slope:g})",
            "relu6": f'nn.Sequential(nn.LeakyReLU({self.slope:g}), nn.Hardtanh(float("-inf"), 6.0))',
            "hardswish": "nn.SiLU()",
        }.get(self.stats.site.op)
        path = self.stats.site.module
        return f"model.set_submodule({json.dumps(path)}, {module})" if module and path else None

    def _in_source(self, why: str) -> Iterator[Remedy]:
        """A functional call: its edit, or where to make it by hand."""
        site = self.stats.site
        edit, source = self._edit(), site.source
        if source is None:
            inside = f"The call is made inside `{site.module}`, a layer of torch's own"
            if self._file:
                yield Remedy(
                    title=self.title,
                    why=f"{why} {inside}: patch swaps it where the layer keeps its activation, as"
                    " nn.TransformerEncoderLayer does.",
                    command=self._patch(),
                )
            yield Remedy(
                title=("Or give" if self._file else "Give") + " the layer another activation where it is built",
                why=f"{inside}: nn.TransformerEncoderLayer takes `activation=nn.LeakyReLU({self.slope:g})`; nn.RNN"
                " knows relu and tanh only.",
            )
            return
        place = f"{source.file}:{source.line}"
        others = sum(other.site.source == source for other in self.report.sites) - 1
        why += " The weights fit the edited code as they are."
        if others:
            why += f" The same line makes {count(others, 'other site')}, which the edit changes too."
        if edit is None:
            why += f" The call at {place} cannot be rewritten here; there, write torch.nn.functional.{self.new}."
        yield Remedy(title=self.title if edit else f"{self.title}, at {place}", why=why, edit=edit)

    def _edit(self) -> Edit | None:
        """The edit of the source line."""
        site = self.stats.site
        if site.source is None or self.new is None:
            return None
        return edit_for(site.source, site.op, slope=self.slope, new=self.new, root=self.root)
