"""A baseline made at one commit gates the next."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import check_refusal, deadrelu
from tests.cli.planted import save_data, save_model


def test_a_baseline_made_at_one_commit_gates_the_next(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    save_data(tmp_path / "val.npz")
    baseline = tmp_path / "base.json"
    words = ("scan", "model.pt", "--data", "val.npz", "--baseline", "base.json")

    save_model(tmp_path / "model.pt", [1, 5, 9])
    check_refusal(deadrelu(*words, cwd=tmp_path), "base.json cannot be read.*--update-baseline")
    made = deadrelu(*words, "--update-baseline", cwd=tmp_path)
    assert made.code == 0, made
    assert '"1": {"units": 16, "op": "relu", "after": "0", "rules": {"DR001": [1, 5, 9]}}' in baseline.read_text()
    assert deadrelu(*words, "--max-dead", "0%", "-q", cwd=tmp_path).code == 0
    before = baseline.read_bytes()

    save_model(tmp_path / "model.pt", [1, 3, 5, 9, 12])
    worse = deadrelu(*words, "--format", "json", cwd=tmp_path)
    found = [f for f in json.loads(worse.out)["findings"] if f["severity"] == "error"]
    assert (worse.code, [(f["rule"], f["site"], f["units"]) for f in found]) == (1, [("DR001", "1", [3, 12])])
    assert "2 more than in the baseline" in found[0]["message"]
    assert deadrelu(*words, "--tolerance", "2", "-q", cwd=tmp_path).code == 0
    check_refusal(deadrelu(*words, "--update-baseline", "-q", cwd=tmp_path), r"newly dead: 3, 12.*--force")
    assert baseline.read_bytes() == before

    save_model(tmp_path / "model.pt", [5])
    better = deadrelu(*words, cwd=tmp_path)
    assert better.code == 0
    assert "note: 1 site has fewer dead units than the baseline allows; --update-baseline tightens it" in better.err
    assert baseline.read_bytes() == before
    assert deadrelu(*words, "--update-baseline", "-q", cwd=tmp_path).code == 0
    assert '"DR001": [5]' in baseline.read_text()


def test_a_stale_baseline_is_reported_and_not_rewritten(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    save_data(tmp_path / "val.npz")
    save_model(tmp_path / "model.pt", [])
    sites = {"1": {"units": 16, "rules": {}}, "old.relu": {"units": 8, "rules": {"DR001": [2]}}}
    stale = json.dumps({"deadrelu_baseline": 1, "models": {"model.pt": sites}})
    (tmp_path / "base.json").write_text(stale)
    done = deadrelu("scan", "model.pt", "--data", "val.npz", "--baseline", "base.json", cwd=tmp_path)
    assert done.code == 0
    assert "the baseline is stale: base.json knows old.relu, gone from the model" in done.err
    assert (tmp_path / "base.json").read_text() == stale
    alien = {"deadrelu_baseline": 1, "models": {"model.pt": {"stem.relu": {"units": 8, "rules": {}}}}}
    (tmp_path / "base.json").write_text(json.dumps(alien))
    save_model(tmp_path / "other.pt", [])
    other = deadrelu("scan", "other.pt", "--data", "val.npz", "--baseline", "base.json", cwd=tmp_path)
    check_refusal(other, "does not know the model 'other.pt'; it knows model.pt")


def test_the_next_checkpoint_is_held_against_the_only_one_in_the_file_and_takes_its_place(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    save_data(tmp_path / "val.npz")
    options = ("--data", "val.npz", "--baseline", "base.json")
    save_model(tmp_path / "epoch12.pt", [1, 5])
    assert deadrelu("scan", "epoch12.pt", *options, "--update-baseline", cwd=tmp_path).code == 0

    save_model(tmp_path / "epoch13.pt", [1])
    better = deadrelu("scan", "epoch13.pt", *options, cwd=tmp_path)
    assert better.code == 0, better
    assert "base.json knows epoch12.pt alone, which has the same sites: epoch13.pt is compared with that" in better.err

    (tmp_path / "epoch12.pt").unlink()
    save_model(tmp_path / "epoch14.pt", [1, 3, 5])
    check_refusal(deadrelu("scan", "epoch14.pt", *options, "--update-baseline", "-q", cwd=tmp_path), "newly dead: 3")
    renewed = deadrelu("scan", "epoch13.pt", *options, "--update-baseline", cwd=tmp_path)
    assert "base.json now knows 1 site of epoch13.pt, in the place of epoch12.pt" in renewed.err
    assert list(json.loads((tmp_path / "base.json").read_text())["models"]) == ["epoch13.pt"]
