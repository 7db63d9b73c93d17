"""The styles of everything that is drawn in colour at a terminal, in rich's words."""

from __future__ import annotations

from collections.abc import Mapping

from deadrelu.judge.compare import Change
from deadrelu.render.conclusion import Mood
from deadrelu.render.rows import Condition
from deadrelu.report import Severity
from deadrelu.report.advice import Ailment
from deadrelu.report.inspection import Way
from deadrelu.report.trial import ArmVerdict

MOOD: Mapping[Mood, str] = {"good": "bold green", "doubtful": "bold yellow", "bad": "bold red"}
SEVERITY: Mapping[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}
CONDITION: Mapping[Condition, str] = {
    Condition.DEAD: "bold red",
    Condition.ERROR: "red",
    Condition.WARNING: "yellow",
    Condition.NOTE: "",
    Condition.HEALTHY: "",
}
MARK: Mapping[Condition, str] = {**CONDITION, Condition.NOTE: "cyan", Condition.HEALTHY: "green"}
UNIT = {"dead": "bold red", "saturated": "bold yellow", "nonfinite": "bold magenta", "rare": "yellow", "fires": "cyan"}
CHANGE: Mapping[Change, str] = {
    "non-finite": "bold magenta",
    "worse": "bold red",
    "better": "green",
    "changed": "yellow",
    "new": "cyan",
    "swapped": "yellow",
    "gone": "dim",
    "same": "dim",
}
AILMENT: Mapping[Ailment, str] = {
    "input scale": "bold yellow",
    "non-finite": "bold red",
    "wholly dead": "bold red",
    "mostly dead": "bold yellow",
    "some dead": "yellow",
    "rare": "cyan",
    "synthetic data": "bold yellow",
    "too few samples": "bold yellow",
    "skipped": "yellow",
}
WAY: Mapping[Way, str] = {
    "as it is": "bold green",
    "with --arch": "bold cyan",
    "with --weights-key": "bold cyan",
    "with --trust": "bold yellow",
    "with an extra": "bold cyan",
    "not at all": "bold red",
}
ARM: Mapping[ArmVerdict, str] = {"better": "bold green", "worse": "red", "no evidence": "", "baseline": "bold"}
