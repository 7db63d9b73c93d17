"""The remedy for a Hugging Face folder: its config.json names another activation, its weights stay as they are."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deadrelu.activations import REPLACEMENTS
from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec
from deadrelu.errors import UsageError
from deadrelu.files.writing import check_folder_writable, replacing_folder
from deadrelu.load.extras import extra
from deadrelu.load.pretrained import config_of, from_config, read_config, settings_in
from deadrelu.load.sniff import FileKind, sniff
from deadrelu.load.spec import ModelSpec
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import report_on
from deadrelu.measure.scan import Progress
from deadrelu.remedy.reopen import open_comparable, opening_of_patched, reopen
from deadrelu.remedy.swap import ModuleSwap, SwapOptions, choose_sites, in_the_source
from deadrelu.remedy.treatment import Treatment, decided, proved
from deadrelu.report import Report, SiteStats
from deadrelu.report.advice import PatchResult, Refusal
from deadrelu.text.wording import count

_CONFIG = "config.json"
_OLD = "relu"
_GATED = "gated-"
"""T5 writes a gated feed-forward layer into the activation's name: `gated-relu`."""


@dataclass(frozen=True)
class ActivationSetting:
    """The keys of one config (or of a config inside it) that name a ReLU; they change together.

    `changed` maps a path to the module that takes its place.
    """

    places: tuple[str, ...]
    changed: Mapping[str, nn.Module]

    def sites(self, report: Report) -> list[SiteStats]:
        """The sites that change with it."""
        return [stats for stats in report.sites if stats.site.swappable and stats.site.module in self.changed]


def is_folder(model: str) -> bool:
    """Whether MODEL is a Hugging Face folder."""
    return Path(model).is_dir() and sniff(Path(model)) is FileKind.HUGGINGFACE


def patch_folder(
    original: ModelSpec,
    output: Path,
    data: DataSpec,
    wanted: SwapOptions,
    scope: Plan,
    *,
    force: bool = False,
    preview: bool = False,
    progress: Progress | None = None,
) -> PatchResult:
    """Write a patched copy of a folder to the folder `output`, proved; with `preview`, only say what would be swapped.

    Nothing is written where there is nothing to swap, or where the proof fails. Raises `UsageError` for what a config
    cannot express, `OutputError` where `output` cannot be written, and what opening, reading and measuring raise.
    """
    _check_wanted(wanted)
    folder = Path(str(original.model))
    if not preview:
        check_folder_writable(output, mark=_CONFIG, force=force)
    program, info = open_comparable(original)
    batches = open_data(data, program)
    report = report_on(program, info, batches, scope, progress=progress)
    arguments = original.arch_args
    settings = list(_settings(folder, arguments, program.module, wanted.to))
    treatment, places = _treatment(program.module, settings, report, wanted)
    result = decided(treatment, info, wanted)
    if preview or not treatment.swaps:
        return result
    with replacing_folder(output, mark=_CONFIG, force=force) as temporary:
        shutil.copytree(folder, temporary, dirs_exist_ok=True)
        _write_config(read_config(folder), places, wanted.to, temporary)
        after, evidence, _ = reopen(original, opening_of_patched(original, temporary), data, treatment.axes)
        result = proved(result, treatment, after, evidence)
    note = f"changed in {_CONFIG}: {', '.join(places)}; every other file is a copy, byte for byte"
    return replace(result, output=str(output), notes=(note, *result.notes))


def _check_wanted(wanted: SwapOptions) -> None:
    """Raise `UsageError` for what the name of an activation in a config cannot say."""
    if wanted.only_dead_units or wanted.reinit:
        raise UsageError(
            "a config.json names one activation for all units, and holds no weights",
            hint="leave out --only-dead-units and --reinit, or give the weights file with --arch hf:FOLDER",
        )
    known = extra("transformers").activations.ACT2FN
    possible = [name for name in REPLACEMENTS if name in known and name != "prelu"]  # PReLU has weights to load
    if wanted.to not in possible:
        raise UsageError(
            f"a config.json cannot name {wanted.to}: transformers has none without weights",
            hint=f"--with {', '.join(possible)}",
        )
    if wanted.to == "leaky_relu" and wanted.slope != nn.LeakyReLU().negative_slope:
        raise UsageError(
            f"--slope {wanted.slope:g}: the leaky_relu of transformers has slope 0.01, and a config cannot set another",
            hint="leave out --slope, or choose another activation with --with",
        )


def _settings(folder: Path, arguments: Mapping[str, object], before: nn.Module, to: str) -> Iterator[ActivationSetting]:
    """What in the config names a ReLU, each with the modules that depend on it."""
    raw = read_config(folder)
    groups: dict[str, list[str]] = {}
    for place, _, value in (*settings_in(config_of(folder, arguments).to_dict()), *settings_in(raw)):
        if value in (_OLD, _GATED + _OLD):
            group = groups.setdefault(place.rpartition(".")[0], [])
            group += [] if place in group else [place]
    old = dict(before.named_modules(remove_duplicate=False))
    for places in groups.values():
        with tempfile.TemporaryDirectory() as name, torch.device("meta"):
            _write_config(raw, places, to, Path(name))
            after = from_config(Path(name), arguments)
        changed = {
            path: m
            for path, m in after.named_modules(remove_duplicate=False)
            if path in old and type(m) is not type(old[path])
        }
        yield ActivationSetting(tuple(places), {path: m.train(old[path].training) for path, m in changed.items()})


def _write_config(raw: Mapping[str, Any], places: list[str], to: str, folder: Path) -> None:
    """Write `raw` into `folder`, with activation `to` at each of the dotted `places`."""
    config: dict[str, Any] = json.loads(json.dumps(raw))
    for place in places:
        *path, key = place.split(".")
        inside = config
        for part in path:
            inside = inside.setdefault(part, {})
        inside[key] = _GATED + to if str(inside.get(key)).startswith(_GATED) else to
    (folder / _CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _treatment(
    before: nn.Module, settings: list[ActivationSetting], report: Report, wanted: SwapOptions
) -> tuple[Treatment, list[str]]:
    """What the settings whose sites were all asked for change, what is refused, and the places of these settings."""
    chosen = choose_sites(report.sites, wanted.sites)
    ids = {stats.site.id for stats in chosen}
    swaps: list[ModuleSwap] = []
    refused: list[Refusal] = []
    places: list[str] = []
    governed: set[str] = set()
    for setting in settings:
        sites = setting.sites(report)
        names = [stats.site.id for stats in sites]
        governed.update(names)
        left = [name for name in names if name not in ids]
        if left:
            refused += [Refusal(site=name, reason=_reason(setting, names, left)) for name in names if name in ids]
            continue
        if not sites:
            continue
        places += setting.places
        for path, module in setting.changed.items():
            swaps.append(ModuleSwap(path, tuple(stats for stats in sites if stats.site.module == path), module))
    refused += [_ungoverned(stats, wanted) for stats in chosen if stats.site.id not in governed]
    order = [stats.site.id for stats in chosen]
    modules = dict(before.named_modules(remove_duplicate=False))
    treatment = Treatment(
        report=report,
        swaps=tuple(swaps),
        refused=tuple(sorted(refused, key=lambda refusal: order.index(refusal.site))),
        restarts={},
        old={swap.path: " ".join(repr(modules[swap.path]).split()) for swap in swaps},
        paths={swap.path: swap.path for swap in swaps},
        edits=(),
        python=(),
        module=before,
        undo=lambda: None,
    )
    return treatment, places


def _reason(setting: ActivationSetting, names: list[str], left: list[str]) -> str:
    """Why a site is not swapped alone."""
    shown = ", ".join(left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")
    return (
        f"{setting.places[0]} in {_CONFIG} holds for {count(len(names), 'site')}, which change together: {shown} would "
        "change too; --site all takes them all"
    )


def _ungoverned(stats: SiteStats, wanted: SwapOptions) -> Refusal:
    """Why a site that no setting of the config names is left."""
    if not stats.site.swappable:
        return in_the_source(stats, wanted)
    return Refusal(site=stats.site.id, reason=f"no setting in {_CONFIG} names this {stats.site.op}")
