"""`deadrelu scan` on the sample models: the exit codes, the formats, and what narrows the report."""

from __future__ import annotations

import json
import re
import shlex
from fractions import Fraction
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.cli.conftest import CONV, DIGITS, DYING, HEALTHY, NET, WEIGHTS, Done, check_refusal, deadrelu
from tests.test_sample_models import CLAIMS


def totals(sample: str) -> tuple[int, int]:
    """Dead units and units of a sample, as its README claims and `tests/test_sample_models.py` recomputes."""
    pairs = [pair.split("/") for pair in CLAIMS[sample]["dead"].split(", ")]
    return sum(int(dead) for dead, _ in pairs), sum(int(units) for _, units in pairs)


@pytest.fixture(scope="module")
def dying() -> Done:
    """The scan of the README."""
    return deadrelu("scan", DYING, "--data", DIGITS)


def test_without_a_limit_a_scan_informs_and_passes(dying: Done) -> None:
    dead, units = totals("dying.pt")
    assert dying.code == 0
    assert re.search(rf"{dead} of {units} units \([\d.]+%\) never fired on 1,797 samples", " ".join(dying.out.split()))


def test_a_limit_that_is_kept_is_0() -> None:
    assert deadrelu("scan", HEALTHY, "--data", DIGITS, "--max-dead", "0%").code == 0


def test_a_limit_that_is_broken_is_1_and_exit_zero_hides_it() -> None:
    words = ["scan", DYING, "--data", DIGITS, "--max-dead", "5%", "--format", "json"]
    failed, hidden = deadrelu(*words), deadrelu(*words, "--exit-zero")
    assert (failed.code, hidden.code) == (1, 0)
    reports = [json.loads(done.out) for done in (failed, hidden)]
    words_of = [report["settings"].pop("invocation") for report in reports]
    assert set(words_of[1]) - set(words_of[0]) == {"--exit-zero"}
    assert reports[0] == reports[1]
    assert reports[0]["summary"]["verdict"] == "fail"


def test_exit_zero_hides_neither_2_nor_3(tmp_path: Path) -> None:
    assert deadrelu("scan", "gone.pt", "--exit-zero").code == 2
    (tmp_path / "net.py").write_text("from torch import nn\nnet = nn.Linear(4, 4)\n")
    assert deadrelu("scan", "net.py:net", "--exit-zero", cwd=tmp_path).code == 3


def test_a_limit_on_the_total_adds_the_sites_up() -> None:
    dead, units = totals("conv.pt")
    words = ["scan", CONV, "--data", DIGITS, "--quiet", "--max-dead-total"]
    assert deadrelu(*words, str((dead + 0.5) / units)).code == 0
    assert deadrelu(*words, str((dead - 0.5) / units)).code == 1


def test_a_limit_on_saturated_units_is_a_flag_and_a_key(tmp_path: Path) -> None:
    words = ["scan", HEALTHY, "--data", DIGITS, "--quiet", "--format", "json"]
    by_flag = deadrelu(*words, "--max-saturated", "5%")
    (tmp_path / "own.toml").write_text("max-saturated = 0.05\n")
    by_key = deadrelu(*words, "--config", str(tmp_path / "own.toml"))
    for done in (by_flag, by_key):
        assert (done.code, json.loads(done.out)["settings"]["max_saturated"]) == (0, 0.05)
    early = deadrelu("scan", HEALTHY, "--data", DIGITS, "--max-saturated", "5%", "--max-dead", "5%", "--until-verdict")
    check_refusal(early, "a scan that stops early cannot judge saturated units")


def test_strict_makes_a_skipped_site_fail(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.first, self.used, self.unused = nn.Linear(64, 5), nn.ReLU(), nn.ReLU()\n"
        "    def forward(self, x):\n        return self.used(self.first(x))\n"
    )
    words = ["scan", "net.py", "--data", DIGITS, "--format", "json"]
    lax, strict = deadrelu(*words, cwd=tmp_path), deadrelu(*words, "--strict", cwd=tmp_path)
    assert (lax.code, strict.code) == (0, 1)
    assert [skipped["id"] for skipped in json.loads(strict.out)["skipped"]] == ["unused"]


def test_site_and_skip_site_narrow_what_is_judged() -> None:
    worst, *others = (Fraction(share) for share in CLAIMS["dying.pt"]["dead"].split(", "))
    limit = (worst + max(others)) / 2
    assert worst > limit
    words = ["scan", DYING, "--data", DIGITS, "--max-dead", str(float(limit)), "--format", "json"]
    only = deadrelu(*words, "--site", "[35]")
    without = deadrelu(*words, "--skip-site", "1")
    assert deadrelu(*words).code == 1
    for done in (only, without):
        assert done.code == 0
        assert [site["id"] for site in json.loads(done.out)["sites"]] == ["3", "5"]


def test_units_draws_each_unit_of_one_site_and_of_no_other(dying: Done) -> None:
    done = deadrelu("scan", DYING, "--data", DIGITS, "--units", "5")
    assert done.code == 0
    assert done.out != dying.out
    dead, units = CLAIMS["dying.pt"]["dead"].split(", ")[2].split("/")
    assert re.search(rf"\b{units} units\b", done.out)
    assert re.search(rf"\b{dead} dead\b", done.out)


def test_one_scan_writes_many_reports(tmp_path: Path, dying: Done) -> None:
    words = ["scan", DYING, "--data", DIGITS, "-o", "json=a.json", "-o", "markdown=a.md"]
    done = deadrelu(*words, cwd=tmp_path)
    assert (done.code, done.out) == (0, dying.out)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "a.md"]
    stdout = deadrelu("scan", DYING, "--data", DIGITS, "--format", "json")
    assert (tmp_path / "a.json").read_text() == stdout.out
    assert "| " in (tmp_path / "a.md").read_text()


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_every_line_but_the_command_to_copy_fits_the_width_that_columns_gives(columns: int) -> None:
    done = deadrelu("scan", "sample_models/conv.pt", "--data", "sample_models/digits.npz", COLUMNS=str(columns))
    *lines, command = done.out.splitlines()
    assert command.startswith("  deadrelu ")
    assert max(map(cell_len, lines)) <= columns
    assert max(map(cell_len, lines)) > columns * 0.6


def test_a_pipe_gets_no_colour_unless_it_is_forced_and_no_color_wins(dying: Done) -> None:
    words = ["scan", DYING, "--data", DIGITS]
    forced = deadrelu(*words, FORCE_COLOR="1")
    assert "\x1b" not in dying.out
    assert "\x1b[" in forced.out
    assert re.sub(r"\x1b\[[0-9;]*m", "", forced.out) == dying.out
    assert deadrelu(*words, FORCE_COLOR="1", NO_COLOR="1").out == dying.out


def test_an_ascii_terminal_gets_ascii() -> None:
    done = deadrelu("scan", "sample_models/dying.pt", "--data", "sample_models/digits.npz", PYTHONIOENCODING="ascii")
    assert done.code == 0, done
    assert done.out.isascii()


@pytest.mark.parametrize("model", [DYING, HEALTHY, CONV])
def test_a_whole_module_needs_nothing_else(model: str) -> None:
    done = deadrelu("scan", model)
    assert done.code == 0, done
    assert "synthetic" in done.out.lower()
    assert "DR009" in done.out
    assert "--data" in done.out.splitlines()[-1]


def test_weights_need_their_code_alone_and_the_next_command_works_as_it_stands() -> None:
    done = deadrelu("scan", WEIGHTS, "--arch", NET, "--data", DIGITS)
    assert done.code == 0, done
    command = shlex.split(done.out.splitlines()[-1])
    assert command[:2] == ["deadrelu", "suggest"]
    following = deadrelu(*command[1:])
    assert following.code == 0, following


def test_code_alone_is_a_model_at_its_initial_weights() -> None:
    done = deadrelu("scan", NET, "--data", DIGITS, "--format", "json")
    assert done.code == 0, done
    assert len(json.loads(done.out)["sites"]) == 6


def test_plasticity_is_a_flag_and_a_key(tmp_path: Path) -> None:
    words = ["scan", CONV, "--data", DIGITS, "--quiet"]
    table = deadrelu(*words, "--plasticity")
    assert (table.code, "effective rank" in table.out) == (0, True)
    (tmp_path / "own.toml").write_text("plasticity = true\n")
    by_key = deadrelu(*words, "--config", str(tmp_path / "own.toml"), "--format", "json")
    assert all(site["ranks"]["values_for_99"] > 1 for site in json.loads(by_key.out)["sites"])
    plain = deadrelu(*words, "--format", "json")
    assert "ranks" not in plain.out
