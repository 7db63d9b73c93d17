"""Printed commands: what they repeat of an invocation, what they leave out, and what they pin."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from deadrelu.report import Report
from deadrelu.report.commands import next_scan, patch_command, scan_command, suggest_command, words_of
from tests.conftest import make_report

WORDS = ("my m.pt", "--arch=net.py:Net", "--arch-arg=n=3", "--data=x.npy", "--site=a", "--max-dead=5%", "--strict")


def report(*words: str, live: bool = False) -> Report:
    """A report to which these words have led, or a call in Python."""
    plain = make_report([])
    return replace(plain, settings={**plain.settings, "invocation": None if live else words})


def test_each_command_repeats_what_it_takes() -> None:
    kept = "'my m.pt' --arch net.py:Net --arch-arg n=3 --data x.npy"
    assert scan_command(report(*WORDS)) == f"deadrelu scan {kept} --site a --max-dead 5% --strict"
    assert suggest_command(report(*WORDS)) == f"deadrelu suggest {kept} --site a"
    assert patch_command(report(*WORDS), "--reinit") == f"deadrelu patch {kept} --reinit"


def test_an_added_option_replaces_the_former_one_unless_it_is_repeatable() -> None:
    words = ("m.pt", "--skip-site=a", "--max-dead=1%", "--strict", "--update-baseline", "--baseline=b.json")
    line = scan_command(report(*words), "--max-dead=5%", "--strict", "--skip-site=b", "-o=json=r.json")
    options = "--skip-site a --baseline b.json --max-dead 5% --strict --skip-site b -o json=r.json"
    assert line == f"deadrelu scan m.pt {options}"
    assert scan_command(report("m.pt", "--samples=9"), without=("--samples",)) == "deadrelu scan m.pt"


def test_trust_is_repeated_only_for_the_bytes_that_were_trusted() -> None:
    trusted = report("m.ts", "--trust")
    assert scan_command(trusted) == f"deadrelu scan m.ts --trust-sha256 {trusted.model.sha256}"
    unknown = replace(trusted, model=replace(trusted.model, sha256=None))
    assert scan_command(unknown) == "deadrelu scan m.ts --trust"


@pytest.mark.parametrize("command", [scan_command, suggest_command, patch_command])
def test_there_is_no_command_for_what_lives_in_memory(command: object) -> None:
    assert command(report(live=True)) is None  # type: ignore[operator]


def test_an_invocation_from_the_configuration_needs_no_words() -> None:
    assert suggest_command(report()) == "deadrelu suggest"


def test_another_file_is_scanned_on_the_same_data_without_the_options_that_opened_the_first() -> None:
    words = (*WORDS, "--batch-size=32", "--weights-key=ema", "--trust")
    assert next_scan(words, "p.pt", "--trust-sha256=ab") == (
        "deadrelu scan p.pt --trust-sha256 ab --data x.npy --batch-size 32"
    )


def test_values_become_words_as_the_command_line_writes_them() -> None:
    options = {
        "arch": None,
        "arch-arg": {"n": "3"},
        "trust": True,
        "allow": ("a.B", "c.D"),
        "samples": 10,
        "feature-axis": {"x": 1, "y": None},
        "strict": False,
    }
    assert words_of("m.pt", options) == (
        "m.pt",
        "--arch-arg=n=3",
        "--trust",
        "--allow=a.B",
        "--allow=c.D",
        "--samples=10",
        "--feature-axis=x=1",
        "--feature-axis=y=none",
    )


def test_special_characters_of_the_shell_are_quoted() -> None:
    words = ("it's.pt", "--data=a b.npz", "--site=x$(y)*")
    assert shlex.split(scan_command(report(*words)) or "") == [
        *("deadrelu", "scan", "it's.pt", "--data", "a b.npz", "--site", "x$(y)*"),
    ]
