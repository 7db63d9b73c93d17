"""Reopens a patched file in a fresh process, scans it there, and compares it with the original.

The process runs `python -m deadrelu.remedy.reopen ANSWER`. It reads a JSON question from stdin and writes its JSON
answer to the file ANSWER. It shares nothing with the process that wrote the patched file but that file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec, ImageOptions
from deadrelu.errors import DeadreluError, ModelError, UsageError
from deadrelu.load.open import open_program
from deadrelu.load.spec import ModelSpec
from deadrelu.load.trust import Trust, sha256_of
from deadrelu.remedy.compare import Evidence, compare_programs, scan_patched
from deadrelu.remedy.prune.surgery import resize
from deadrelu.report import Report
from deadrelu.report.advice import Drift


def patched_spec(original: ModelSpec, path: Path, *, code: str | None = None, ours: bool = False) -> ModelSpec:
    """How the patched file is opened: by the same rules, with the `code` that its classes belong to.

    `ours` lets exactly this file run code: we have just written it, from a model that the user had allowed to run.
    """
    trust = original.trust
    if (trust.sha256 or ours) and path.is_file():  # a folder runs no code of its own
        trust = replace(trust, sha256=(*trust.sha256, sha256_of(path)))
    return ModelSpec(model=str(path), arch=code, trust=trust, device=original.device)


@dataclass(frozen=True)
class Needs:
    """What opening a patched file needs: trust, and the code of its classes."""

    trust: bool
    arch: str | None


def reopen(
    original: ModelSpec,
    patched: ModelSpec,
    data: DataSpec,
    swapped: Mapping[str, int | None],
    *,
    restarted: bool = False,
    resized: bool = False,
    feature_axes: Mapping[str, int | None] | None = None,
) -> tuple[Report | None, Evidence, Needs]:
    """Open and scan the patched model in a fresh process, and compare it with the original there.

    If it is `resized`, it holds weights of other sizes than the code has: the layers of the code take those.
    `feature_axes` are those of the scan.
    `swapped` and `restarted` are as in `compare_programs`. The report is None where no site is left that has a flat
    region. Raises `ModelError` if the process fails, `UsageError` for live data.
    """
    if not isinstance(data.data, (str, Path, type(None))):
        raise UsageError(
            f"a fresh process verifies what was written, and cannot see the {type(data.data).__name__} of this one",
            hint="give the data as a file, or as code: file.py:name",
        )
    try:
        json.dumps(dict(data.inputs))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"a fresh process verifies what was written, and cannot be given these inputs: {error}",
            hint="give inputs that JSON can hold: numbers, strings, lists",
        ) from error
    question = {
        "original": asdict(replace(original, model=str(original.model))),
        "patched": asdict(patched),
        "data": asdict(replace(data, data=None if data.data is None else str(data.data))),
        "swapped": dict(swapped),
        "restarted": restarted,
        "resized": resized,
        "feature_axes": dict(feature_axes or {}),
    }
    found = _answer_of_process(json.dumps(question))
    if "error" in found:
        raise ModelError(f"the patched file fails verification: {found['error']}", hint="nothing was written")
    report = Report.from_dict(found["report"]) if found["report"] else None
    return report, _evidence(found["evidence"]), Needs(**found["needs"])


def _answer_of_process(question: str) -> Any:
    """Start a fresh process with this question, and read its answer. Raises `ModelError` if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answer.json"
        done = subprocess.run(
            [sys.executable, "-m", "deadrelu.remedy.reopen", str(file)],
            input=question,
            text=True,
            stdout=subprocess.DEVNULL,  # the user's code may print, and our stdout is not the place for that
            stderr=subprocess.PIPE,
            check=False,
        )
        if not file.exists():
            last = (done.stderr.strip().splitlines() or ["it printed no error"])[-1]
            raise ModelError(f"the patched file could not be checked: {last}", hint="nothing was written")
        return json.loads(file.read_text(encoding="utf-8"))


def _evidence(fields: Mapping[str, Any]) -> Evidence:
    """Evidence from its JSON."""
    out: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    for key in ("alive", "reached"):
        out[key] = {path: tuple(units) for path, units in fields[key].items()}
    return Evidence(**{**out, "drift": Drift(**fields["drift"])})


def answer(question: str) -> str:
    """Open both models, run both over the data, and report what was seen, or the error; from JSON to JSON."""
    try:
        return json.dumps(_measure_both(json.loads(question)))
    except DeadreluError as error:
        return json.dumps({"error": error.message})


def _measure_both(question: Mapping[str, Any]) -> dict[str, Any]:
    """The report on the patched model, what the comparison showed, and what opening it takes."""
    wanted = question["data"]
    data = DataSpec(**{**wanted, "images": ImageOptions(**wanted["images"])})
    patched = _model_spec(question["patched"])
    original = _model_spec(question["original"])
    before, _ = open_program(original)
    if question["resized"]:
        needs = Needs(trust=False, arch=None)
        after, info = open_program(original)
        resize(after.module, torch.load(str(patched.model), weights_only=True))
    else:
        needs = _needs(patched)
        after, info = open_program(patched)
    batches = open_data(data, before)
    report = scan_patched(after, info, batches, question["feature_axes"])
    evidence = compare_programs(before, after, batches, question["swapped"], restarted=question["restarted"])
    found = None if report is None else report.to_dict()
    return {"report": found, "evidence": asdict(evidence), "needs": asdict(needs)}


def _needs(patched: ModelSpec) -> Needs:
    """The least of what the spec gives that opens the patched file; allowed classes stay allowed."""
    untrusted = replace(patched.trust, all=False, sha256=())
    for arch in dict.fromkeys((None, patched.arch)):
        try:
            open_program(replace(patched, arch=arch, trust=untrusted))
        except DeadreluError:
            continue
        return Needs(trust=False, arch=arch)
    return Needs(trust=True, arch=patched.arch)


def _model_spec(fields: Mapping[str, Any]) -> ModelSpec:
    trust: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields["trust"].items()}
    return ModelSpec(**{**fields, "trust": Trust(**trust)})


def main() -> None:
    """Answer the question on stdin into the file that is named."""
    text = answer(sys.stdin.read())
    Path(sys.argv[1]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
