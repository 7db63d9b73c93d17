"""Checks that a patched model is what was planned, and adds what the comparison showed to the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from torch import nn

from deadrelu.errors import ModelError
from deadrelu.judge.matching import Identity, match
from deadrelu.programs.eager.replacement import leaking_units
from deadrelu.remedy.apply import Applied
from deadrelu.remedy.compare import Evidence
from deadrelu.report import Report
from deadrelu.report.advice import PatchResult, SiteChange


def verify(result: PatchResult, applied: Applied, after: Report | None, evidence: Evidence) -> PatchResult:
    """The result with what was seen of the patched model. Raises `ModelError` if that is not what was planned."""
    if applied.calls:
        return _verify_modules(result, applied, after, evidence)
    return _verify_graph(result, applied, after, evidence)


def _verify_modules(result: PatchResult, applied: Applied, after: Report | None, evidence: Evidence) -> PatchResult:
    """The result for a model whose modules were swapped."""
    calls = applied.calls
    changes = tuple(_with_evidence(change, calls[change.site], evidence) for change in result.changes)
    _check_structure(applied, evidence)
    _check_dead_units(applied, changes)
    dead_after = {stats.site.id: stats.dead for stats in after.sites} if after else {}
    dead_after |= {change.site: len(change.dead_after) for change in changes}
    order = {site: dead_after[site] for site in result.dead_before if site in dead_after}
    gone = [site for site in result.dead_before if site not in dead_after]
    notes = [f"no gradient was taken: {evidence.no_gradient}"] if evidence.no_gradient else []
    if gone:
        notes.append(f"these sites do not run any more on this data: {', '.join(gone)}")
    if evidence.parameters_added:
        notes.append(f"new parameters: {', '.join(evidence.parameters_added)}")
    return replace(
        result,
        changes=changes,
        dead_after=order | dead_after,
        drift=evidence.drift,
        parameters_changed=evidence.parameters_changed,
        notes=tuple(notes),
        gradient_steps=evidence.steps,
    )


def _with_evidence(change: SiteChange, call: str, evidence: Evidence) -> SiteChange:
    """The change with what was seen at this call of the new module."""
    alive, reached = evidence.alive.get(call, ()), evidence.reached.get(call, ())
    return replace(
        change,
        dead_after=tuple(unit for unit, lives in enumerate(alive) if not lives),
        with_gradient=tuple(unit for unit in change.dead_before if unit < len(reached) and reached[unit]),
    )


def _check_structure(applied: Applied, evidence: Evidence) -> None:
    """Raise `ModelError` for a model with other weights or modules than planned."""
    meant = {name for restart in applied.restarts.values() for name in restart.tensors}
    new = {id(call.module) for call in applied.swapped.done.values()}
    aliases = {path for path, m in applied.module.named_modules(remove_duplicate=False) if id(m) in new}
    roots = {*aliases, *applied.paths, *(call.path for call in applied.swapped.done.values())}

    def is_inside(name: str) -> bool:
        return any(root == "" or name == root or name.startswith(f"{root}.") for root in roots)

    changed = (name for name in evidence.parameters_changed if name not in meant)
    wrong = [n for n in (*changed, *evidence.parameters_added, *evidence.modules_changed) if not is_inside(n)]
    if wrong:
        raise ModelError(f"the patched model differs where it should not: {_listed(wrong)}", hint="please report it")


def _check_dead_units(applied: Applied, changes: Sequence[SiteChange]) -> None:
    """Raise `ModelError` if a unit that should leak is still dead."""
    for change in changes:
        module = applied.swapped.done[change.site].module
        if not isinstance(module, (nn.LeakyReLU, nn.PReLU)):
            continue
        leaking = leaking_units(module)
        dead = set(change.dead_before) & set(change.dead_after)
        still = sorted(dead if leaking is None else dead & leaking)
        if still:
            raise ModelError(f"units {still[:6]} of {change.site} are still dead", hint="please report it")


def _verify_graph(result: PatchResult, applied: Applied, after: Report | None, evidence: Evidence) -> PatchResult:
    """The result for a graph whose calls were swapped."""
    if evidence.parameters_changed:
        names = _listed(evidence.parameters_changed)
        raise ModelError(f"the patched file has other weights: {names}", hint="please report it")
    done = applied.swapped.done
    seen = {stats.site.id: stats for stats in after.sites} if after else {}
    left = {site: applied.swapped.renamed.get(site, site) for site in result.dead_before if site not in done}
    missing = [site for site, name in left.items() if name not in seen]
    if missing:
        raise ModelError(f"the patched file has lost the sites {_listed(missing)}", hint="please report it")
    stay = [site for site in done if site in seen and seen[site].site.op == "relu" and site not in left.values()]
    if stay:
        raise ModelError(f"{_listed(stay)} were not swapped in the patched file", hint="please report it")
    sites = [stats.site for stats in applied.before.sites if stats.site.id in done]
    others = [Identity.of(stats.site) for name, stats in seen.items() if name not in left.values()]
    became = {sites[place].id: name for name, place in match([Identity.of(site) for site in sites], others).items()}
    changes = []
    for change in result.changes:
        now = became.get(change.site)
        reached = evidence.reached.get(now) if now and not evidence.no_gradient else None
        if reached is not None and len(reached) == change.units:
            change = replace(change, with_gradient=tuple(unit for unit in change.dead_before if reached[unit]))
        changes.append(change)
    unknown = any(change.with_gradient is None for change in changes)
    note = "whether gradient reaches the swapped sites was not measured: the file is a graph, made to be run"
    return replace(
        result,
        changes=tuple(changes),
        dead_after={site: seen[left[site]].dead if site in left else 0 for site in result.dead_before},
        drift=evidence.drift,
        notes=(note,) if unknown else (),
    )


def _listed(names: Iterable[str]) -> str:
    """The first six names."""
    return ", ".join(list(names)[:6])
