"""The baseline options: reads the file, compares a report with it, and updates it on request."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from deadrelu.cli import console
from deadrelu.errors import FileError, UsageError
from deadrelu.files.writing import check_writable, locked, write_text
from deadrelu.judge.baseline import Entries, compare_to_baseline, gate, is_same_model, parse_tolerance, renew_entries
from deadrelu.judge.baseline_file import BaselineFile
from deadrelu.judge.policy import Policy
from deadrelu.report import Report
from deadrelu.text.wording import count, first_few


@dataclass(frozen=True, kw_only=True)
class BaselineGate:
    """The baseline options. `name` is the name of the model in the file (default: its path, relative to the file)."""

    path: Path | None
    file: BaselineFile = field(default_factory=BaselineFile)
    update: bool = False
    tolerance: int | float = 0
    loosen: bool = False
    name: str | None = None
    quiet: bool = False

    def apply(self, report: Report, policy: Policy) -> Report:
        """The report judged against the baseline, which is updated first if `update` is set.

        Raises `UsageError` if the baseline does not know this model or would get looser. A report without a site is
        returned unchanged, and updates nothing.
        """
        if self.path is None or not report.sites:
            return report
        name = self.name or _place(report.model.path, self.path)
        known = self.file.models.get(name)
        if self.update:
            known = self._renew(self.path, name, report, policy)
        elif known is None and (other := self._other(self.file, report)) is not None:
            known = self.file.models[other]
            self._note(f"{self.path} knows {other} alone, which has the same sites: {name} is compared with that")
            self._note_changes(report, known)
        elif known is None:
            others = ", ".join(sorted(self.file.models)) or "no model at all"
            raise UsageError(
                f"the baseline {self.path} does not know the model {name!r}; it knows {others}",
                hint="add it with --update-baseline",
            )
        else:
            self._note_changes(report, known)
        change = compare_to_baseline(report, known)
        settings = {**report.settings, "baseline": str(self.path), "tolerance": self.tolerance}
        settings["standing"] = "tolerated" if change.worse else "better" if change.better else "same"
        return gate(replace(report, settings=settings), policy, known, self.tolerance)

    def _renew(self, path: Path, name: str, report: Report, policy: Policy) -> Entries:
        """Write and return the new entries; the file is read again, as another process may have written it."""
        with locked(path):
            file = _read(path) if path.exists() else BaselineFile()
            other = None if name in file.models else self._other(file, report)
            if other is not None and (path.parent / other).exists():
                other = None  # two models that happen to have the same sites
            now = renew_entries(report, policy, file.models.get(other or name), force=self.loosen)
            write_text(path, file.with_model(name, now, instead_of=other).to_json(), force=True)
        place = f", in the place of {other}" if other else ""
        self._note(f"{path} now knows {count(len(now), 'site')} of {name}{place}")
        return now

    def _other(self, file: BaselineFile, report: Report) -> str | None:
        """The only model in the file, if it has the sites of this one: the next checkpoint has another path."""
        if self.name is not None or len(file.models) != 1:
            return None
        [(name, known)] = file.models.items()
        return name if is_same_model(report, known) else None

    def _note_changes(self, report: Report, known: Entries) -> None:
        """Note what is stale, and what could be tightened; the file is not changed."""
        change = compare_to_baseline(report, known)
        if change.moved:
            named = [f"{now} was {old}" for now, old in change.moved.items()]
            self._note(f"moved since the baseline: {first_few(named)}; --update-baseline renews it")
        if change.renumbered:
            sites = count(len(change.renumbered), "site")
            self._note(f"{self.path} names {sites} as earlier versions did; --update-baseline renews it")
        if change.gone:
            shown = first_few(change.gone)
            self._note(
                f"the baseline is stale: {self.path} knows {shown}, gone from the model; --update-baseline renews it"
            )
        if change.swapped:
            names = [f"{site} ({op})" for site, op in change.swapped.items()]
            shown = first_few(names)
            self._note(f"swapped for another activation since the baseline: {shown}")
        if change.better and not change.worse:
            sites = count(len(change.better), "site has", "sites have")
            self._note(f"{sites} fewer dead units than the baseline allows; --update-baseline tightens it")

    def _note(self, text: str) -> None:
        if not self.quiet:
            console.print_note(text)


def baseline_gate(
    path: Path | None, *, update: bool, tolerance: str, loosen: bool, name: str | None, quiet: bool
) -> BaselineGate:
    """Read the baseline before the scan, which takes longer.

    Raises `FileError` if the file is missing or broken, `UsageError` if one of the options requires another.
    """
    if path is None and update:
        raise UsageError("--update-baseline has no --baseline to write", hint="add --baseline FILE")
    allowed = parse_tolerance(tolerance)
    if update and path:
        check_writable(path, force=True)
    file = BaselineFile() if path is None or (update and not path.exists()) else _read(path)
    return BaselineGate(path=path, file=file, update=update, tolerance=allowed, loosen=loosen, name=name, quiet=quiet)


def _read(path: Path) -> BaselineFile:
    """The content of the file. Raises `FileError`."""
    try:
        return BaselineFile.from_json(path.read_bytes(), str(path))
    except OSError as error:
        raise FileError(
            f"the baseline {path} cannot be read: {error.strerror or error}",
            hint="make it with --update-baseline, and commit it",
        ) from error


def _place(model: str | None, baseline: Path) -> str:
    """The model's path relative to the baseline's folder, with slashes: the same wherever the command is run."""
    if model is None or not os.path.exists(model):
        return model or "a model in memory"
    return Path(os.path.relpath(model, baseline.parent)).as_posix()
