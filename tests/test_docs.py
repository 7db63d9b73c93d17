"""What the guides in docs/ show is true: their commands exist with these flags, their configurations can be read."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from deadrelu.cli.app import every_command
from deadrelu.cli.configuration import known_keys
from deadrelu.cli.values import output_paths
from deadrelu.config.file import read
from deadrelu.render.formats import Format

ROOT = Path(__file__).parents[1]
COMMANDS = every_command()
PAGES = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")}


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, of all pages."""
    return [block for text in PAGES.values() for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)]


def commands() -> list[list[str]]:
    """Every `deadrelu …` line of a shell or a workflow block, as words."""
    found = []
    for block in [*blocks("sh"), *blocks("yaml")]:
        found += re.findall(r"^(?:\s*-\s(?:run: )?)?(deadrelu (?!#).*)$", block, re.M)
    return [shlex.split(line, comments=True) for line in found]


def test_the_pages_show_commands_and_configurations() -> None:
    assert len(commands()) >= 12
    assert len(blocks("toml")) >= 2


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_has_the_flags_that_it_is_shown_with(words: list[str]) -> None:
    command = COMMANDS[words[1]]
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert [word for word in words[2:] if word.startswith("-") and word not in flags] == []
    for flag, value in itertools.pairwise(words):
        if flag == "-o":
            assert output_paths([value], Format)


@pytest.mark.parametrize("text", blocks("toml"))
def test_every_configuration_can_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    assert read(tmp_path / "pyproject.toml", known_keys(COMMANDS.values())).values


def test_the_workflow_shown_uses_inputs_and_outputs_that_the_action_has() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    steps = [step for block in blocks("yaml") for step in _steps(block) if "deadrelu@" in step.get("uses", "")]
    assert len(steps) == 1
    assert set(steps[0]["with"]) <= set(action["inputs"])
    for name in re.findall(r"steps\.deadrelu\.outputs\.([a-z-]+)", PAGES["ci.md"]):
        assert name in action["outputs"]


def _steps(block: str) -> list[dict[str, object]]:
    """The steps of a workflow, if the block is a list of them."""
    parsed = yaml.safe_load(block)
    return parsed if isinstance(parsed, list) else []
