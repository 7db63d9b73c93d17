"""What is misspelt is asked back, what has two spellings takes both, and no word of Typer's or pydantic's gets out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deadrelu.cli.values import output_paths, split_globs
from deadrelu.errors import UsageError
from deadrelu.render.formats import Format
from tests.cli.conftest import DIGITS, DYING, WEIGHTS, check_refusal, deadrelu
from tests.cli.inside import ran, refused

REFUSED = {
    "an option": (["scan", "m.pt", "--max-ded", "5%"], "there is no option --max-ded; did you mean '--max-dead'?"),
    "an option of deadrelu": (["--conf", "x", "scan"], "there is no option --conf; did you mean '--config'?"),
    "an option of another command": (["scan", "m.pt", "--slope", "1"], "there is no option --slope; `deadrelu scan"),
    "a command": (["scn", "m.pt"], "there is no command 'scn'; did you mean 'scan'?"),
    "no command": (["--no-config"], "no command was given; `deadrelu --help` lists the commands"),
    "a format of stdout": (["scan", "m.pt", "--format", "jsn"], "--format 'jsn' is not one of table, json, .*'json'?"),
    "a format of a file": (["scan", "m.pt", "-o", "jsn=x"], "-o jsn=x: 'jsn' is not a format; did you mean 'json'?"),
    "a replacement": (["patch", "m.pt", "--with", "leakyrelu"], "--with 'leakyrelu' is not .*mean 'leaky_relu'?"),
    "a rule": (["rules", "ded-site"], "there is no rule 'ded-site'; did you mean 'dead-site'?"),
    "a code to ignore": (
        ["scan", "m.pt", "--ignore", "DR01"],
        "--ignore: there is no rule 'DR01'; did you mean 'DR001'",
    ),
    "a name to select": (
        ["scan", "m.pt", "--select", "rare"],
        "--select: there is no rule 'rare'; did you mean 'rare-u",
    ),
    "a device": (["scan", "m.pt", "--device", "gpu"], "--device 'gpu' is not one of auto, cpu, cuda, mps; `deadrelu"),
    "a number": (["scan", "m.pt", "--samples", "few"], "--samples 'few' is not a whole number; write a whole number"),
    "a number below the least": (["scan", "m.pt", "--samples", "0"], "--samples is 0, less than 1; write"),
    "a slope": (["patch", "m.pt", "--slope", "x"], "--slope 'x' is not a number; for example 0.01"),
    "a share": (["scan", "m.pt", "--max-dead", "many"], "--max-dead 'many' is .*; write a percentage such as 5%"),
    "no value": (["scan", "m.pt", "--samples"], "--samples needs a value; `deadrelu scan --help` lists the options"),
    "a value for a switch": (["scan", "m.pt", "--strict=1"], "--strict takes no value; `deadrelu scan --help`"),
    "one argument too few": (["diff", "a.json"], "NEW is missing; write `deadrelu diff [OPTIONS] OLD NEW`"),
    "one argument too many": (
        ["scan", "m.pt", "x"],
        "unexpected argument 'x'; write `deadrelu scan [OPTIONS] [MODEL]`",
    ),
    "no suffix": (["scan", "m.pt", "-o", "report"], "-o report: its suffix names no format; write -o FORMAT=report"),
    "another suffix": (["inspect", "m.pt", "-o", "a.md"], "-o a.md: its suffix names no format; .* table, json"),
    "dead sites of a scan": (["scan", "m.pt", "--site", "dead"], "--site dead is for `deadrelu patch`; a scan finds"),
}
FOREIGN = re.compile(r"Invalid value|Value error|Input should|No such|Got unexpected|Missing|Try '|\(s\)")


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_one_line_with_a_next_step(case: str) -> None:
    words, expected = REFUSED[case]
    said = refused(*words)
    start = re.escape(expected).replace(r"\.\*", ".*")
    assert re.match(start, said), said
    assert not FOREIGN.search(said)


def test_a_refusal_is_the_same_from_a_shell() -> None:
    check_refusal(deadrelu("scan", "m.pt", "--format", "jsn"), "--format 'jsn' is not one of", "did you mean 'json'")


@pytest.mark.parametrize(
    ("path", "format"),
    [
        ("r.json", "json"),
        ("R.JSON", "json"),
        ("out/r.md", "markdown"),
        ("r.sarif", "sarif"),
        ("r.sarif.json", "sarif"),
        ("r.xml", "junit"),
        ("r.html", "html"),
        ("r.txt", "table"),
        ("gitlab=r.json", "gitlab"),
        ("runs/lr=0.1/r.json", "json"),
        ("json=runs/lr=0.1/r", "json"),
    ],
)
def test_a_suffix_says_the_format_unless_one_is_named(path: str, format: str) -> None:
    assert output_paths([path], Format) == [(format, Path(path.removeprefix(f"{format}=")))]


def test_globs_may_stand_together_with_commas() -> None:
    assert split_globs(["a.*,b", "c"]) == ["a.*", "b", "c"]
    assert split_globs(["a[,]b,c[12]", ""]) == ["a[,]b", "c[12]"]


def measured(folder: Path, *words: str) -> list[str]:
    """The sites that a scan of `dying.pt` measures with these options."""
    out = folder / "report.json"
    ran("scan", DYING, "--data", DIGITS, "--samples", "64", "-q", "--force", "-o", str(out), *words)
    return [site["id"] for site in json.loads(out.read_text())["sites"]]


def test_site_and_sites_are_one_option_of_a_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert measured(tmp_path, "--site", "1,5") == measured(tmp_path, "--sites", "1", "--site=5") == ["1", "5"]
    assert measured(tmp_path, "--skip-sites", "1,5") == ["3"]
    assert measured(tmp_path, "--sites", "all") == ["1", "3", "5"]


def test_site_and_sites_are_one_option_of_a_patch(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for words in (["--site", "3,5"], ["--sites", "3", "--sites=5"]):
        assert ran("patch", DYING, "--data", DIGITS, "--samples", "64", "--diff", "--format", "json", "-q", *words) == 0
        shown.append([change["site"] for change in json.loads(capsys.readouterr().out)["changes"]])
    assert shown == [["3", "5"], ["3", "5"]]


def test_the_sites_of_a_file_hold_for_scan_and_patch_and_dead_only_for_patch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / "deadrelu.toml"
    patch = ("patch", DYING, "--data", DIGITS, "--samples", "64", "--diff", "--format", "json")
    settings.write_text('sites = ["3"]')
    assert measured(tmp_path) == ["3"]
    capsys.readouterr()
    assert ran(*patch) == 0
    printed = capsys.readouterr()
    assert [change["site"] for change in json.loads(printed.out)["changes"]] == ["3"]
    assert "patch swaps 3, by 'site' in deadrelu.toml" in printed.err
    settings.write_text('[tool.deadrelu]\nsite = ["dead"]')
    assert measured(tmp_path) == ["1", "3", "5"]


@pytest.mark.parametrize("words", [["--config", "ci.toml"], ["--config=ci.toml"]])
def test_a_configuration_may_be_named_after_the_command(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ci.toml").write_text('sites = ["5"]')
    (tmp_path / "deadrelu.toml").write_text('sites = ["3"]')
    assert measured(tmp_path, *words) == ["5"]
    assert measured(tmp_path, "--no-config") == ["1", "3", "5"]
    assert "contradict each other" in refused("scan", DYING, "--no-config", *words)
    assert "contradict each other" in refused("--no-config", "scan", DYING, *words)


def test_debug_may_stand_after_the_command() -> None:
    done = deadrelu("rules", "DR999", "--debug")
    assert done.code == 2
    assert "Traceback" in done.err


def test_the_value_of_another_option_is_no_option() -> None:
    assert refused("scan", WEIGHTS, "--arch", "--config").startswith("'--config' names no Python file")
    assert refused("scan", "--debug", "--sites=a", "--", "--debug").startswith("there is no file --debug")


@pytest.mark.parametrize(
    "command", [["diff", "known.json", "known.json"], ["report", "known.json"], ["suggest", "known.json"]]
)
def test_a_baseline_is_recognised_where_a_report_is_wanted(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "known.json").write_text('{\n  "deadrelu_baseline": 1,\n  "models": {}\n}\n')
    assert refused(*command) == (
        "known.json is a baseline: it records known dead units, not a scan; "
        "compare a model with it by `deadrelu scan MODEL --baseline known.json`"
    )


def test_an_output_of_the_file_without_a_format_stays_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    (tmp_path / "project" / "deadrelu.toml").write_text('output = ["../out.json"]')
    assert "outside of the folder" in refused("scan", DYING)
    with pytest.raises(UsageError, match="its suffix names no format"):
        output_paths(["../out"], Format)


def test_the_usage_line_is_the_same_where_help_was_shown_before() -> None:
    assert ran("scan", "--help") == 0
    assert refused("scan", "m.pt", "x") == deadrelu("scan", "m.pt", "x").error
