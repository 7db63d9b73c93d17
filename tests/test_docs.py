"""What docs/ shows is true: its commands run or exist, its pictures are current, its tables are those of the code."""

from __future__ import annotations

import html
import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

import deadrelu
from deadrelu.cli.app import every_command
from deadrelu.cli.configuration import known_keys
from deadrelu.cli.values import output_paths
from deadrelu.config.file import read_configuration
from deadrelu.judge.rules import RULES
from deadrelu.render.formats import Format
from docs.pictures import FOLDER, PICTURES, WIDTH
from tests.cli.conftest import deadrelu as run

ROOT = Path(__file__).parents[1]
PAGES = {
    page.relative_to(ROOT / "docs").as_posix(): page.read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").rglob("*.md"))
}
README = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
EXIT = re.compile(r"#.*\bexits (\d+)")
RUNS = re.compile(r"^deadrelu \w+ sample_models/|^import deadrelu$|^import json$", re.M)

RUNNABLE = [page for page, text in PAGES.items() if RUNS.search(text) and "pytorch_lightning" not in text]
"""The pages with commands on the samples or with Python; the integrations run the guide for Lightning."""


FILE = re.compile(r"# (\w+\.py)\n")
"""The first line of Python that a command reads from a file."""


def blocks(language: str, *pages: str) -> list[str]:
    """The fenced blocks of one language, of these pages or of all."""
    texts = [PAGES[page] for page in pages or PAGES]
    return [block for text in texts for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)]


def lines(*pages: str) -> list[str]:
    """Every `deadrelu …` line of a shell or a workflow block."""
    shown = [*blocks("sh", *pages), *blocks("yaml", *pages)]
    return [line for block in shown for line in re.findall(r"^(?:\s*-\s(?:run: )?)?(deadrelu (?!#).*)$", block, re.M)]


def can_run(line: str, folder: Path) -> bool:
    """Whether the files that a command begins with are there: samples, or what a line before it has written."""
    words = shlex.split(line, comments=True)[2:]
    given = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    return bool(given) and all((folder / word).exists() for word in given)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the sample models."""
    shutil.copytree(ROOT / "sample_models", tmp_path / "sample_models")
    return tmp_path


def text_of(picture: Path) -> str:
    """The letters of a picture of a terminal: where it breaks a line or leaves space does not count."""
    svg = picture.read_text(encoding="utf-8")
    return "".join(html.unescape("".join(re.findall(r"<text[^>]*>(.*?)</text>", svg, re.S))).split())


def test_the_pages_show_commands_and_configurations() -> None:
    assert len(lines()) >= 30
    assert len(blocks("toml")) >= 3


@pytest.mark.parametrize("line", lines())
def test_every_command_has_the_flags_that_it_is_shown_with(line: str) -> None:
    words = shlex.split(line, comments=True)
    command = every_command()[words[1]]
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert [word for word in words[2:] if word.startswith("-") and word not in flags] == []
    for flag, value in itertools.pairwise(words):
        is_other = words[1] in ("patch", "prune") or value.startswith(
            ("model=", "witnesses=")
        )  # of a patch, a trial or a proof
        if flag == "-o" and not is_other:
            assert output_paths([value], Format)


@pytest.mark.parametrize("page", RUNNABLE)
def test_what_a_page_shows_can_be_run(page: str, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = blocks("python", page)
    files = {found[1]: block for block in python if (found := FILE.match(block))}
    for name, block in files.items():
        (clone / name).write_text(block)
    for line in lines(page):
        if can_run(line, clone) and line not in README:  # its commands are run by tests/test_readme.py
            command = line.partition(" #")[0].strip()
            done = run(
                *shlex.split(command)[1:], cwd=clone, COLUMNS=str(WIDTH), DEADRELU_JOBS="1"
            )  # to start a process takes seconds
            expected = EXIT.search(line)
            assert done.code == int(expected[1] if expected else 0), f"{line}\n{done.err}"
            for name in [name for name in PICTURES if PICTURES[name] == command]:
                printed = "".join(f"$ {command} {done.out}".split())
                assert text_of(FOLDER / f"{name}.svg") == printed, "draw it again: python docs/pictures.py"
    monkeypatch.chdir(clone)
    exec("".join(block for block in python if block not in files.values()), {"__name__": page})


def test_the_command_of_every_picture_is_on_a_page() -> None:
    assert set(PICTURES.values()) <= {line.partition(" #")[0].strip() for line in lines()}
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(PICTURES)


def test_a_picture_names_no_server() -> None:
    for picture in FOLDER.glob("*.svg"):
        assert "url(http" not in picture.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", blocks("toml"))
def test_every_configuration_can_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    assert read_configuration(tmp_path / "pyproject.toml", known_keys(every_command().values())).values


def test_the_workflow_shown_uses_inputs_and_outputs_that_the_action_has() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    steps = [step for block in blocks("yaml") for step in _steps(block) if "deadrelu@" in str(step.get("uses", ""))]
    assert len(steps) == 1
    assert set(steps[0]["with"]) <= set(action["inputs"])  # type: ignore[call-overload]
    for name in re.findall(r"steps\.deadrelu\.outputs\.([a-z-]+)", PAGES["ci.md"]):
        assert name in action["outputs"]


def test_the_page_of_rules_is_the_table_of_rules() -> None:
    sections = dict(re.findall(r"^## (.+)\n\n([^#]+)", PAGES["rules.md"], re.M))
    assert list(sections) == [f"{rule.code} {rule.name}" for rule in RULES.values()]
    for rule, text in zip(RULES.values(), sections.values(), strict=True):
        begins = f"**{rule.summary}** Default: {rule.severity}.\n\n{rule.why}\n\n*What to do:* {rule.fix}\n"
        assert text.startswith(begins)


def test_the_page_of_the_json_report_names_every_key_of_the_schema() -> None:
    schema = json.loads((ROOT / "deadrelu" / "report.schema.json").read_text(encoding="utf-8"))
    general, of_a_site = PAGES["json.md"].split("## A site")
    site = schema["properties"]["sites"]["items"]["properties"]
    assert _keys_in_first_column(general) == set(schema["properties"])
    assert _keys_in_first_column(of_a_site) == set(site)
    for name in ("summary", "data", "tool", "model"):
        row = next(row for row in general.splitlines() if row.startswith(f"| `{name}`"))
        assert set(schema["properties"][name]["properties"]) <= set(re.findall(r"`(\w+)`", row))
    for name in ("skipped", "leaky", "findings"):
        row = next(row for row in general.splitlines() if row.startswith(f"| `{name}`"))
        known = set(schema["properties"][name]["items"]["properties"]) - {"alias"}
        assert known <= set(re.findall(r"`(\w+)`", row))


def test_the_pages_outside_the_site_link_to_files_that_exist() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\((?!http|#)([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
            assert (ROOT / link).exists(), f"{page}: {link}"


def test_the_house_in_contributing_has_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = [path.name for path in (ROOT / "deadrelu").iterdir() if (path / "__init__.py").exists()]
    assert len(rooms) >= 10
    assert [room for room in rooms if f"`{room}/`" not in text] == []


def test_the_page_of_the_api_has_every_public_name() -> None:
    shown = re.findall(r"^::: [\w.]*?(\w+)$", PAGES["api.md"], re.M)
    assert [name for name in deadrelu.__all__ if name not in (*shown, "__version__")] == []


def test_what_to_touch_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## What to touch to add\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z_/]+\.(?:py|md))`", section))
    assert len(named) >= 15
    assert [name for name in named if not (ROOT / name).exists() and not (ROOT / "deadrelu" / name).exists()] == []


def _keys_in_first_column(text: str) -> set[str]:
    """The keys in the first cells of the tables."""
    cells = re.findall(r"^\| (`.*?) \|", text, re.M)
    return {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}


def _steps(block: str) -> list[dict[str, object]]:
    """The steps of a workflow, if the block is a list of them."""
    parsed = yaml.safe_load(block)
    return parsed if isinstance(parsed, list) else []
