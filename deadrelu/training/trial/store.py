"""The folder of a trial: what was asked, each finished run, and how far the others are. A run is written whole or not.

trial.json       the question, which a trial that is resumed must ask again
runs/00-3.json   the outcome of arm 0 with seed 3
now/00-3.json    the last point of that run while it goes on
models/00-3.pt   the trained model, where one is to be kept
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deadrelu.errors import FileError, OutputError, UsageError
from deadrelu.files.writing import locked, write_text
from deadrelu.report.serialisation import to_json
from deadrelu.report.trial import CurvePoint
from deadrelu.training.trial.job import Job, Outcome

_QUESTION = "trial.json"


class Store:
    """The folder at `path`."""

    def __init__(self, path: Path) -> None:
        """Make its parts where they are not there. Raises `OutputError` where the folder cannot be made."""
        self.path = path
        try:
            for part in (path / "runs", path / "now", path / "models"):
                part.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{path} cannot be a folder: {error.strerror or error}", hint="name another with --resume"
            ) from error

    def claim(self, question: Mapping[str, Any]) -> None:
        """Note what this trial asks. Raises `UsageError` where the folder belongs to one that asked something else."""
        place = self.path / _QUESTION
        asked = json.loads(to_json(dict(question)))
        with locked(place):
            if not place.exists():
                write_text(place, to_json(asked), force=False)
                return
        try:
            known = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FileError(f"{place} cannot be read: {error}", hint="name another folder with --resume") from error
        differing = [key for key in {**known, **asked} if known.get(key) != asked.get(key)]
        if differing:
            key = differing[0]
            other, this = _shown(known.get(key)), _shown(asked.get(key))
            raise UsageError(
                f"{self.path} belongs to another trial: its {key} is {other}, not {this}",
                hint="name another folder with --resume, or ask the same",
            )

    @property
    def threads(self) -> int | None:
        """How many threads each run of this folder had; None if it is new."""
        try:
            found = json.loads((self.path / _QUESTION).read_text(encoding="utf-8"))["threads"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, int) else None

    def outcome(self, job: Job) -> Outcome | None:
        """What became of a job; None if it has not ended, or its file cannot be read."""
        try:
            found = json.loads(self._run(job).read_text(encoding="utf-8"))
            return Outcome.from_dict(found)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, job: Job, outcome: Outcome) -> None:
        """Write the outcome of a job. The scores of a run are its largest part."""
        write_text(self._run(job), json.dumps(outcome.to_dict()), force=True)
        with suppress(OSError):
            self._now(job).unlink()

    def note(self, job: Job, point: CurvePoint) -> None:
        """Write how far a run is. It is only shown: where it cannot be written, the run goes on."""
        place = self._now(job)
        waiting = place.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            waiting.write_text(json.dumps(asdict(point)), encoding="utf-8")
            os.replace(waiting, place)

    def now(self, job: Job) -> CurvePoint | None:
        """How far a run is; None if it has not begun."""
        try:
            return CurvePoint(**json.loads(self._now(job).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def model(self, job: Job) -> Path:
        """Where the model of a job is kept."""
        return self.path / "models" / f"{job.name}.pt"

    def _run(self, job: Job) -> Path:
        return self.path / "runs" / f"{job.name}.json"

    def _now(self, job: Job) -> Path:
        return self.path / "now" / f"{job.name}.json"


def _shown(value: object) -> str:
    """A value on one line, shortened."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
