"""`deadrelu inspect` as a user meets it."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.cli.conftest import DYING, WEIGHTS, check_refusal, deadrelu


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_the_table_says_what_it_is_how_it_opens_and_what_is_in_it() -> None:
    done = deadrelu("inspect", DYING)
    assert done.code == 0
    assert done.err == ""
    for said in ("a whole Sequential", "as it is", "Linear(64 → 128)", "weight 128×64 · bias 128", "3 sites known"):
        assert said in done.out
    assert all(len(line) <= 100 for line in done.out.splitlines())


def test_the_json_holds_the_hash_the_keys_and_the_sites() -> None:
    found = json.loads(deadrelu("inspect", DYING, "--format", "json").out)
    assert found["schema_version"] == 1
    assert found["sha256"] == hashlib.sha256(Path(DYING).read_bytes()).hexdigest()
    state = torch.load(DYING, weights_only=False).state_dict()
    assert {t["key"]: t["shape"] for t in found["tensors"]} == {k: list(v.shape) for k, v in state.items()}
    assert [site["id"] for site in found["sites"]] == ["1", "3", "5"]
    assert found["opening"]["way"] == "as it is"


def test_weights_name_the_flag_that_they_need() -> None:
    found = json.loads(deadrelu("inspect", WEIGHTS, "--format", "json").out)
    assert found["opening"]["way"] == "with --arch"
    assert found["sites"] == []


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_payload_is_named_and_does_not_run(kind: str, tmp_path: Path) -> None:
    path, marker = tmp_path / "m.pt", tmp_path / "it-ran"
    value = {"model": nn.Sequential(nn.ReLU()), "x": Payload(marker)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(value))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=kind == "zip")
    done = deadrelu("inspect", str(path))
    assert done.code == 0
    assert "builtins.exec" in done.out
    assert "Would run code" in done.out
    assert not marker.exists()


def test_a_hostile_name_cannot_steer_the_terminal(tmp_path: Path) -> None:
    torch.save({"\x1b[2Jkey\n": torch.ones(2), "b": torch.ones(3)}, tmp_path / "m.pt")
    done = deadrelu("inspect", str(tmp_path / "m.pt"), FORCE_COLOR="1", NO_COLOR="1")
    assert "\x1b" not in done.out
    assert r"\x1b[2Jkey\n" in done.out


def test_output_goes_to_files_too_and_overwrites_nothing(tmp_path: Path) -> None:
    target = tmp_path / "found.json"
    assert deadrelu("inspect", DYING, "-o", f"json={target}").code == 0
    assert json.loads(target.read_text())["kind"] == "torch-zip"
    check_refusal(deadrelu("inspect", DYING, "-o", f"json={target}"), "exists already")


def test_what_is_missing_damaged_or_empty_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    cut = tmp_path / "cut.pt"
    cut.write_bytes(Path(DYING).read_bytes()[:-100])
    flipped = bytearray(Path(DYING).read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / "flipped.pt").write_bytes(flipped)
    check_refusal(deadrelu("inspect", "none.pt", cwd=tmp_path), "there is no file")
    check_refusal(deadrelu("inspect", "empty.pt", cwd=tmp_path), "empty")
    check_refusal(deadrelu("inspect", "cut.pt", cwd=tmp_path), "cut short")
    check_refusal(deadrelu("inspect", "flipped.pt", cwd=tmp_path), "checksum")


def test_a_kind_that_is_not_read_is_an_answer_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    done = deadrelu("inspect", "m.pt", cwd=tmp_path)
    assert done.code == 0
    assert "git lfs pull" in done.out


def test_hyper_parameters_are_shown_and_an_object_with_networks_names_the_option(tmp_path: Path) -> None:
    hyper = {"hidden": 24, "sizes": [1, 2], "out": Path("runs")}
    torch.save({"state_dict": {"weight": torch.ones(1)}, "hyper_parameters": hyper}, tmp_path / "last.ckpt")
    shown = deadrelu("inspect", "last.ckpt", cwd=tmp_path).out
    for said in (
        "Hyper-parameters  passed to the constructor that --arch names",
        "hidden  24",
        "sizes  [1, 2]",
        "objects: out",
    ):
        assert said in shown
    assert json.loads(deadrelu("inspect", "last.ckpt", "--format", "json", cwd=tmp_path).out)["hyper_parameters"] == {
        "hidden": 24,
        "sizes": [1, 2],
    }
    torch.save({"actor": nn.Linear(2, 2), "critic": nn.Linear(2, 1)}, tmp_path / "agent.pt")
    assert "choose: --weights-key actor" in deadrelu("inspect", "agent.pt", cwd=tmp_path).out
