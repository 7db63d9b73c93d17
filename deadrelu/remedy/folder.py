"""Patches a Hugging Face folder: its config.json names another activation, and its weights stay unchanged."""

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
from deadrelu.load.open import open_program
from deadrelu.load.pretrained import config_of, from_config, read_config, settings_in
from deadrelu.load.sniff import FileKind, sniff
from deadrelu.load.spec import ModelSpec
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import report_on
from deadrelu.measure.scan import Progress
from deadrelu.programs.eager.replacement import describe_module
from deadrelu.programs.eager.swap import why_functional
from deadrelu.programs.program import Swapped, SwappedCall
from deadrelu.remedy.apply import Applied, preview_result
from deadrelu.remedy.choose import SwapOptions, choose_sites, refuse
from deadrelu.remedy.reopen import patched_spec, reopen
from deadrelu.remedy.verify import verify
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

    keys: tuple[str, ...]
    changed: Mapping[str, nn.Module]

    def sites(self, report: Report) -> list[SiteStats]:
        """The sites that change with these keys."""
        return [stats for stats in report.sites if stats.site.swappable and stats.site.module in self.changed]


def is_folder(model: str) -> bool:
    """Whether MODEL is a Hugging Face folder."""
    return Path(model).is_dir() and sniff(Path(model)) is FileKind.HUGGINGFACE


def patch_folder(
    original: ModelSpec,
    output: Path,
    data: DataSpec,
    options: SwapOptions,
    plan: Plan,
    *,
    force: bool = False,
    preview: bool = False,
    progress: Progress | None = None,
) -> PatchResult:
    """Write a verified, patched copy of a folder to `output`; with `preview`, only say what would be swapped.

    Nothing is written if there is nothing to swap or verification fails. Raises `UsageError` for what a config
    cannot express, `OutputError` where `output` cannot be written, and what opening, reading and measuring raise.
    """
    _check_options(options)
    folder = Path(str(original.model))
    if not preview:
        check_folder_writable(output, mark=_CONFIG, force=force)
    program, info = open_program(original)
    before = report_on(program, info, open_data(data, program), plan, progress=progress)
    arguments = original.arch_args
    settings = list(_settings(folder, arguments, program.module, options.to))
    applied, keys = _applied(program.module, settings, before, options)
    result = preview_result(applied, info, options)
    if preview or not result.changes:
        return result
    with replacing_folder(output, mark=_CONFIG, force=force) as temporary:
        shutil.copytree(folder, temporary, dirs_exist_ok=True)
        _write_config(read_config(folder), keys, options.to, temporary)
        after, evidence, _ = reopen(original, patched_spec(original, temporary), data, applied.axes)
        result = verify(result, applied, after, evidence)
    note = f"changed in {_CONFIG}: {', '.join(keys)}; every other file is a copy, byte for byte"
    return replace(result, output=str(output), notes=(note, *result.notes))


def _check_options(options: SwapOptions) -> None:
    """Raise `UsageError` for what a config, which only names an activation, cannot express."""
    if options.only_dead_units or options.reinit:
        raise UsageError(
            "a config.json names one activation for all units, and holds no weights",
            hint="leave out --only-dead-units and --reinit, or give the weights file with --arch hf:FOLDER",
        )
    known = extra("transformers").activations.ACT2FN
    possible = [name for name in REPLACEMENTS if name in known and name != "prelu"]  # PReLU has weights to load
    if options.to not in possible:
        raise UsageError(
            f"a config.json cannot name {options.to}: transformers has none without weights",
            hint=f"--with {', '.join(possible)}",
        )
    if options.to == "leaky_relu" and options.slope != nn.LeakyReLU().negative_slope:
        raise UsageError(
            f"--slope {options.slope:g}: the leaky_relu of transformers has slope 0.01, and a config cannot set "
            "another",
            hint="leave out --slope, or choose another activation with --with",
        )


def _settings(folder: Path, arguments: Mapping[str, object], before: nn.Module, to: str) -> Iterator[ActivationSetting]:
    """The keys of the config that name a ReLU, each group with the modules that depend on it."""
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


def _applied(
    module: nn.Module, settings: list[ActivationSetting], before: Report, options: SwapOptions
) -> tuple[Applied, list[str]]:
    """The changes by the settings whose sites were all chosen, what is refused, and the keys of these settings."""
    chosen = {stats.site.id: stats for stats in choose_sites(before.sites, options.sites)}
    old = dict(module.named_modules(remove_duplicate=False))
    done: dict[str, SwappedCall] = {}
    refused: dict[str, Refusal] = {}
    keys: list[str] = []
    governed: set[str] = set()
    paths: list[str] = []
    for setting in settings:
        sites = setting.sites(before)
        ids = [stats.site.id for stats in sites]
        governed.update(ids)
        left = [id for id in ids if id not in chosen]
        if left:
            refused |= {id: Refusal(site=id, reason=_reason(setting, ids, left)) for id in ids if id in chosen}
        elif sites:
            keys += setting.keys
            paths += setting.changed
            for path, new in setting.changed.items():
                call = SwappedCall(" ".join(repr(old[path]).split()), describe_module(new), new, path)
                done |= {stats.site.id: call for stats in sites if stats.site.module == path}
    for id, stats in chosen.items():
        if id not in governed:
            site = stats.site
            reason = f"no setting in {_CONFIG} names this {site.op}"
            refused[id] = refuse(
                stats, reason if site.swappable else why_functional(site.module, site.op, site.source), options
            )
    ordered = tuple(refused[id] for id in chosen if id in refused)
    return Applied(before=before, swapped=Swapped(done, {}), refused=ordered, module=module, paths=tuple(paths)), keys


def _reason(setting: ActivationSetting, names: list[str], left: list[str]) -> str:
    """Why a site cannot be swapped alone."""
    shown = ", ".join(left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")
    return (
        f"{setting.keys[0]} in {_CONFIG} holds for {count(len(names), 'site')}, which change together: {shown} would "
        "change too; --site all selects them all"
    )
