"""A made-up rule and a made-up format, each added to a copy of the package by the edits that its docstring names."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deadrelu
from deadrelu.report import Report

RULE = """    Rule(
        code="DR099",
        name="wide-site",
        summary="A site has many units.",
        why="Wide sites cost memory.",
        fix="Make the layer narrower.",
        severity="note",
    ),
"""
FINDER = '''@finder
def find_wide_sites(report: Report, _: Policy) -> Iterator[Finding]:
    """DR099: a site has more than 30 units."""
    for stats in report.sites:
        if stats.site.units > 30:
            yield make_finding("DR099", stats, f"{stats.site.units} units.")


'''


class Copy:
    """A copy of the package, to be edited and run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(Path(deadrelu.__file__).parent, folder / "deadrelu", ignore=ignored)

    def insert(self, path: str, text: str, *, before: str) -> None:
        """Insert text before the only place where `before` stands in a file of the package."""
        file = self.folder / "deadrelu" / path
        head, tail = file.read_text().split(before)
        file.write_text(head + text + before + tail)

    def run(self, *words: str) -> str:
        """What a command of the copy writes to stdout."""
        command = [sys.executable, "-m", "deadrelu", *words]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def copy(tmp_path: Path, canonical: Report) -> Copy:
    """A copy of the package beside a saved report."""
    (tmp_path / "report.json").write_text(canonical.to_json())
    return Copy(tmp_path)


def test_a_rule_takes_an_entry_in_the_table_and_a_finder(copy: Copy, canonical: Report) -> None:
    copy.insert("judge/rules.py", RULE, before=")\n\nRULES = ")
    copy.insert("judge/findings.py", FINDER, before="def _wholly_dead(")
    assert "Make the layer narrower." in copy.run("rules", "wide-site")
    merge = ("merge", "report.json", "--exit-zero", "--format")
    found = [finding for finding in json.loads(copy.run(*merge, "json"))["findings"] if finding["rule"] == "DR099"]
    assert [finding["site"] for finding in found] == [s.site.id for s in canonical.sites if s.site.units > 30] != []
    assert "wide-site" in copy.run(*merge, "html")


def test_a_format_takes_a_module_and_a_line_in_the_list(copy: Copy, canonical: Report) -> None:
    (copy.folder / "deadrelu/render/tally.py").write_text(
        "def render(report):\n    return f'{report.summary.dead} dead'\n"
    )
    copy.insert("render/formats.py", '    TALLY = "tally", ".tally"\n', before="\n    def __new__")
    dead = f"{canonical.summary.dead} dead"
    assert (
        copy.run("report", "report.json", "--format", "tally", "-o", "out.tally", "-o", "tally=again").strip() == dead
    )
    assert (copy.folder / "out.tally").read_text() == (copy.folder / "again").read_text() == dead
    assert ", tally" in copy.run("report", "--help")
