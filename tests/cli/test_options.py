"""Options that cannot be read, or do not fit each other: one line that names the flag, exit 2, before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import DIGITS, DYING, check_refusal, deadrelu

BAD = {
    "unknown flag": (["--max-ded", "5%"], "--max-ded"),
    "unknown command": (None, "frobnicate"),
    "no model": ([], "MODEL"),
    "a word as limit": (["--max-dead", "many"], "--max-dead", "'many'", "5%"),
    "a bare 1 as limit": (["--max-dead", "1"], "--max-dead", "1% or 100%"),
    "a limit above the whole": (["--max-dead", "150%"], "--max-dead", "150%"),
    "a limit below nothing": (["--max-dead-total", "-5%"], "--max-dead-total"),
    "certainty": (["--confidence", "100%"], "--confidence"),
    "no batch": (["--batch-size", "0"], "--batch-size"),
    "a word as number": (["--samples", "few"], "--samples", "whole number"),
    "an unknown format": (["--format", "xml"], "--format", "xml", "json"),
    "an unknown output format": (["-o", "xml=a.xml"], "xml", "markdown"),
    "an output without a format": (["-o", "report.pdf"], "FORMAT=report.pdf"),
    "an unknown rule": (["--ignore", "DR999"], "DR999", "DR001"),
    "an argument that is no JSON": (["--arch-arg", "width=wide"], "width", "JSON"),
    "a shape of words": (["--input-shape", "3,x"], "--input-shape", "3,32,32"),
    "half-named shapes": (["--input-shape", "x=3", "--input-shape", "4"], "names some inputs"),
    "a word as scale": (["--scale", "tiny"], "--scale", "1/255"),
    "a word as axis": (["--feature-axis", "relu=last"], "--feature-axis", "SITE=AXIS"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_option_is_named(case: str) -> None:
    flags, *said = BAD[case]
    words = ["frobnicate"] if flags is None else ["scan", *([DYING] if flags else []), *flags]
    check_refusal(deadrelu(*words), *said)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--device", "cuda:99"], "--device"),
        (["--data", DIGITS, "--input-shape", "64"], "--input-shape is for synthetic data"),
        (["--data", DIGITS, "--site", "nothing*"], "no site matches 'nothing"),
        (["--data", DIGITS, "--skip-site", "nothing*"], "--skip-site nothing.*: no site matches 'nothing"),
        (
            ["--data", DIGITS, "--limits", "nothing=5%"],
            "--limits nothing=5%: no site matches 'nothing'.*the sites are 1, 3",
        ),
        (["--data", DIGITS, "--ignore", "DR004@nothing"], "--ignore DR004@nothing: no site matches 'nothing'"),
        (["--data", DIGITS, "--ignore", "XX999"], "--ignore: there is no rule 'XX999'"),
        (["--data", DIGITS, "--feature-axis", "nothing=1"], "--feature-axis nothing=1: no site matches 'nothing'"),
        (["--data", DIGITS, "--units", "nothing*"], "matches no measured site"),
        (
            ["--data", DIGITS, "--feature-axis", "1=7"],
            r"1 has no axis 7.*choose from 0 \(64, samples\), 1 \(128, features\), or none",
        ),
        (["--data", DIGITS, "--data-key", "z"], "--data-key z"),
    ],
)
def test_options_that_do_not_fit_model_or_data(flags: list[str], said: str) -> None:
    check_refusal(deadrelu("scan", DYING, *flags), said)


def test_an_existing_report_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("mine")
    words = ["scan", DYING, "--data", DIGITS, "-o", f"json={path}"]
    check_refusal(deadrelu(*words), "exists already", "--force")
    assert path.read_text() == "mine"
    assert deadrelu(*words, "--force").code == 0
    assert path.read_text().startswith("{")


def test_a_report_into_nowhere_is_refused_before_the_scan(tmp_path: Path) -> None:
    check_refusal(deadrelu("scan", "gone.pt", "-o", f"json={tmp_path}/gone/report.json"), "is not a folder", "mkdir -p")
    check_refusal(deadrelu("scan", "gone.pt", "-o", f"json={tmp_path}"), "is a folder")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder in which nobody may write")
def test_a_report_into_a_folder_that_takes_no_files_is_refused() -> None:
    check_refusal(deadrelu("scan", DYING, "--data", DIGITS, "-o", "json=/proc/report.json"), "/proc")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_report_into_a_read_only_folder_is_refused_before_the_scan(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    check_refusal(deadrelu("scan", "gone.pt", "-o", f"json={tmp_path}/report.json"), "cannot be written|not writable")
