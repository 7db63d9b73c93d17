"""Every block of the README runs, and every output in it is what the command prints; `--regenerate` writes it anew."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import Done, deadrelu
from tests.test_sample_models import CLAIMS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
WIDTHS = {"deadrelu scan --help": "100"}
ELLIPSIS = "…"
EXIT = re.compile(r"#.*\bexits (\d+)")
SET_UP = ("make ", "pip ", "git ")
CLEAN_UP = "rm "


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its lines."""

    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip()]


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text(), re.M | re.S)]
COMMANDS = [line for block in BLOCKS if block.language == "sh" for line in block.lines]
PASTED = [block for block in BLOCKS if block.language == "sh" and not block.lines[0].startswith(SET_UP)]
SHOWN = [block for block in BLOCKS if block.language == "console"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what the commands of the README name."""
    shutil.copytree(ROOT / "sample_models", tmp_path / "sample_models")
    return tmp_path


def run(command: str, folder: Path) -> Done:
    """Run a `deadrelu` line of the README."""
    program, *words = shlex.split(command, comments=True)
    assert program == "deadrelu", command
    return deadrelu(*words, cwd=folder, COLUMNS=WIDTHS.get(command, "80"))


def rule(target: str) -> str:
    """The lines of a target in the Makefile."""
    found = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert found, target
    return found[1]


def test_there_is_something_to_check() -> None:
    assert {block.language for block in BLOCKS} == {"console", "sh", "python"}
    assert len([line for line in COMMANDS if line.startswith("deadrelu ")]) >= 5
    assert len(SHOWN) == 2


def test_the_first_screen_is_the_sentence_the_table_and_the_two_commands() -> None:
    first, second = BLOCKS[:2]
    assert first.lines[0] == "$ deadrelu scan sample_models/dying.pt --data sample_models/digits.npz"
    assert [line.partition("#")[0].strip() for line in second.lines] == ["make demo", "make test"]
    assert README.read_text().index("make test") < 3500


@pytest.mark.parametrize("block", PASTED, ids=lambda block: block.lines[0])
def test_a_pasted_block_exits_as_the_readme_says_and_leaves_no_file_behind(block: Block, clone: Path) -> None:
    before = sorted(clone.rglob("*"))
    for line in block.lines:
        if line.startswith(CLEAN_UP):
            for name in shlex.split(line)[1:]:
                (clone / name).unlink()
        else:
            done, expected = run(line, clone), EXIT.search(line)
            assert done.code == int(expected[1] if expected else 0), done.err
            assert done.out
    assert [path for path in sorted(clone.rglob("*")) if "__pycache__" not in path.parts] == before


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: block.lines[0])
def test_an_output_is_what_the_command_prints(block: Block, clone: Path, request: pytest.FixtureRequest) -> None:
    prompt, _, shown = block.text.partition("\n")
    done = run(prompt.removeprefix("$ "), clone)
    assert done.code == 0, done.err
    printed = "\n".join(line.rstrip() for line in done.out.strip("\n").splitlines()) + "\n"
    if request.config.getoption("--regenerate"):
        shortened = _shorten(printed)
        README.write_text(
            README.read_text().replace(f"```console\n{block.text}```", f"```console\n{prompt}\n{shortened}```")
        )
        return
    pieces = shown.split(f"{ELLIPSIS}\n")
    assert all(pieces)
    assert re.fullmatch(".*".join(map(re.escape, pieces)), printed, re.S)


def _shorten(printed: str) -> str:
    """The table and the conclusion of a scan, without the findings between them; a help text whole."""
    head, findings, rest = printed.partition("\nFindings\n")
    conclusion = re.search(r"^ [\d,]+ of [\d,]+ units? \(", rest, re.M)
    return f"{head}{ELLIPSIS}\n{rest[conclusion.start() :]}" if findings and conclusion else printed


def test_the_python_blocks_run_one_after_another(clone: Path) -> None:
    text = "".join(block.text for block in BLOCKS if block.language == "python")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    first, *epochs = done.stdout.splitlines()
    assert first.startswith("1 ")
    assert [line.partition(" of 16 units dead")[0][:-1] for line in epochs] == [
        f"{epoch} <Report of a model in memory: PASS, " for epoch in range(3)
    ]
    assert sorted(clone.iterdir()) == [clone / "sample_models"]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith(SET_UP)])
def test_the_set_up_is_what_the_makefile_does(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        recipe = rule(words[1])
        command = "deadrelu scan sample_models/dying.pt --data sample_models/digits.npz"
        assert {"demo": command, "test": "-m pytest"}[words[1]] in recipe
    else:
        assert " ".join(words) in rule("$(VENV)/.installed")


def test_the_accuracy_in_the_prose_is_the_samples() -> None:
    claimed = re.search(r"classifies (\d+) % of held-out digits", README.read_text())
    assert claimed
    assert int(claimed[1]) == int(float(CLAIMS["dying.pt"]["accuracy"]))


def test_every_flag_in_the_prose_exists(clone: Path) -> None:
    flags = set(re.findall(r"`(--[a-z0-9-]+)", README.read_text()))
    commands = ("scan", "suggest", "patch", "inspect", "diff", "trend", "merge", "report", "trial")
    known = "".join(run(f"deadrelu {command} --help", clone).out for command in commands)
    assert flags
    assert sorted(flag for flag in flags if f"{flag} " not in known) == []
