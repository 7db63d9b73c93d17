"""Default < file < environment < flag, as a user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import check_refusal, deadrelu
from tests.cli.planted import save_data, save_model


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with two models, data, and a repository's top."""
    (tmp_path / ".git").mkdir()
    save_model(tmp_path / "sick.pt", [1, 5, 9])
    save_model(tmp_path / "well.pt", [])
    save_data(tmp_path / "val.npz")
    return tmp_path


def configure(project: Path, text: str) -> None:
    """Write the project's configuration."""
    (project / "pyproject.toml").write_text(f"[tool.deadrelu]\n{text}\n", encoding="utf-8")


def test_model_data_and_limit_come_from_the_file_of_a_folder_above_and_it_is_said(project: Path) -> None:
    configure(project, 'model = "sick.pt"\ndata = "val.npz"\nmax_dead = "5%"')
    (project / "deep").mkdir()
    done = deadrelu("scan", "--format", "json", cwd=project / "deep")
    report = json.loads(done.out)
    assert (done.code, report["model"]["path"], report["settings"]["max_dead"]) == (1, "../sick.pt", 0.05)
    assert "note: the model is ../sick.pt, from 'model' in [tool.deadrelu] of ../pyproject.toml" in done.err


def test_a_flag_beats_the_environment_and_that_the_file(project: Path) -> None:
    configure(project, 'model = "sick.pt"\ndata = "val.npz"\nmax-dead = "1%"\nrare-below = 0.5')
    by_environment = deadrelu("scan", "--format", "json", cwd=project, DEADRELU_MAX_DEAD="90%")
    assert (by_environment.code, json.loads(by_environment.out)["settings"]["rare_below"]) == (0, 0.5)
    assert deadrelu("scan", "--max-dead", "2%", "-q", cwd=project, DEADRELU_MAX_DEAD="90%").code == 1
    without = deadrelu("--no-config", "scan", "sick.pt", "--data", "val.npz", "--format", "json", cwd=project)
    assert (without.code, json.loads(without.out)["settings"]["max_dead"]) == (0, None)


def test_a_configuration_can_be_named(project: Path) -> None:
    (project / "ci.toml").write_text('model = "sick.pt"\ndata = "val.npz"\nmax-dead = 0.0\n')
    assert deadrelu("--config", "ci.toml", "scan", "-q", cwd=project).code == 1
    check_refusal(deadrelu("--config", "gone.toml", "scan", cwd=project), "gone.toml cannot be read")
    check_refusal(deadrelu("--config", "ci.toml", "--no-config", "scan", cwd=project), "contradict each other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('max-dead = "5x"', r"'max-dead' in \[tool.deadrelu\] of pyproject.toml is wrong: '5x' is not a fraction"),
        ('max-daed = "5%"', r"unknown key 'max-daed' in \[tool.deadrelu\] of pyproject.toml"),
        ("batch-size = 0", r"'batch-size' in \[tool.deadrelu\] of pyproject.toml is wrong"),
        ('resize = "big"', r"--resize 'big' .* \(from 'resize' in \[tool.deadrelu\] of pyproject.toml\)"),
        ('limits = {"a" = "5x"}', "'5x' is not a fraction"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_key_and_file(project: Path, text: str, said: str) -> None:
    configure(project, text)
    done = deadrelu("scan", "sick.pt", cwd=project)
    assert (done.code, done.out) == (2, "")
    assert re.search(said, done.error), done.error


def test_a_wrong_environment_variable_is_named(project: Path) -> None:
    done = deadrelu("scan", "sick.pt", cwd=project, DEADRELU_BATCH_SIZE="many")
    assert done.code == 2
    assert "the environment variable DEADRELU_BATCH_SIZE is wrong" in done.error


def test_without_a_model_anywhere_both_ways_are_named(project: Path) -> None:
    check_refusal(deadrelu("scan", cwd=project), r"MODEL is missing.*model = \"FILE\" under \[tool.deadrelu\]")


MODELS = """
data = "val.npz"
max-dead = "5%"
[[tool.deadrelu.models]]
name = "well"
model = "well.pt"
[[tool.deadrelu.models]]
name = "sick"
file = "sick.pt"
limits = {"1" = "LIMIT"}
"""


def test_several_models_are_scanned_one_after_another_and_the_worst_code_counts(project: Path) -> None:
    configure(project, MODELS.replace("LIMIT", "50%"))
    assert deadrelu("scan", "-q", cwd=project).code == 0
    configure(project, MODELS.replace("LIMIT", "1%"))
    done = deadrelu("scan", "-o", "json={name}.json", cwd=project)
    assert (done.code, done.out.count("model  ")) == (1, 2)
    verdicts = {
        name: json.loads((project / f"{name}.json").read_text())["summary"]["verdict"] for name in ("well", "sick")
    }
    assert verdicts == {"well": "pass", "sick": "fail"}
    assert deadrelu("scan", "well", "-q", cwd=project).code == 0
    assert deadrelu("scan", "sick", "-q", cwd=project).code == 1


def test_one_broken_model_does_not_keep_the_others_from_their_turn(project: Path) -> None:
    configure(project, MODELS.replace("LIMIT", "50%") + '[[tool.deadrelu.models]]\nname = "gone"\nmodel = "gone.pt"\n')
    done = deadrelu("scan", cwd=project)
    assert done.code == 2
    assert done.error.startswith("gone: there is no file gone.pt")
    assert done.out.count("model  ") == 2


def test_a_glob_that_matches_no_site_is_an_error_and_among_several_models_a_note(project: Path) -> None:
    configure(project, 'model = "sick.pt"\ndata = "val.npz"\nlimits = {"haed" = "5%"}')
    check_refusal(
        deadrelu("scan", cwd=project), "--limits haed=5%: no site matches 'haed'.*'limits' in .*pyproject.toml"
    )
    both = "".join(f'[[tool.deadrelu.models]]\nname = "{n}"\nmodel = "{n}.pt"\n' for n in ("sick", "well"))
    configure(project, f'data = "val.npz"\nskip-site = ["head.*"]\n{both}')
    done = deadrelu("scan", cwd=project)
    assert done.code == 0, done
    assert "note: --skip-site head.*: no site matches 'head.*', so it has no effect on this model" in done.err


def test_several_models_make_neither_one_document_nor_one_file(project: Path) -> None:
    configure(project, MODELS.replace("LIMIT", "50%"))
    check_refusal(deadrelu("scan", "--format", "json", cwd=project), r"--format json is one document.*\{name\}")
    check_refusal(deadrelu("scan", "-o", "json=a.json", cwd=project), r"-o json=a.json is one file")


def test_the_trust_of_a_file_is_for_the_model_that_it_names(project: Path) -> None:
    torch.jit.script(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())).save(str(project / "code.pt"))
    configure(project, 'model = "sick.pt"\ntrust = true\ndata = "val.npz"')
    done = deadrelu("scan", "code.pt", cwd=project)
    assert done.code == 2
    assert "'trust' in [tool.deadrelu] of pyproject.toml is left out" in done.err
    assert "--trust" in done.error


def test_help_is_shown_whatever_the_file_says(project: Path) -> None:
    configure(project, "nonsense = 1")
    assert deadrelu("scan", "--help", cwd=project).code == 0
    assert deadrelu("rules", cwd=project).code == 0
