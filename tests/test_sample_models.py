"""The sample models are what their README says, by plain hooks and without deadrelu."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

SAMPLES = Path(__file__).parents[1] / "sample_models"
ROW = re.compile(r"^\| `(?P<file>\w+\.pt)` \| (?P<accuracy>[\d.]+)% \| (?P<dead>[\d/, ]+) \|$", re.MULTILINE)
CLAIMS = {row["file"]: row for row in ROW.finditer((SAMPLES / "README.md").read_text(encoding="utf-8"))}


def load(file: Path) -> nn.Module:
    """A sample model; its weights are put into `model.py`'s class where the file holds weights only."""
    held = torch.load(file, weights_only=False)
    if isinstance(held, nn.Module):
        return held
    scope: dict[str, type[nn.Module]] = {"__name__": "sample_model"}
    exec((SAMPLES / "model.py").read_text(encoding="utf-8"), scope)
    model = scope["Net"]()
    model.load_state_dict(held)
    return model.eval()


def dead_by_hooks(model: nn.Module, x: Tensor) -> tuple[list[str], float]:
    """`dead/units` at each activation call, and the accuracy on the last 360 rows.

    A functional call is read where its input is made: at the output of the linear layer before it.
    """
    seen: list[Tensor] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].clone()))
        if name in ("hidden", "narrow"):
            module.register_forward_hook(lambda _m, _i, output: seen.append(output.clone()))
    y = torch.from_numpy(np.load(SAMPLES / "digits.npz")["y"])
    with torch.inference_mode():
        right = (model(x)[-360:].argmax(1) == y[-360:]).double().mean().item()
    flat = [z.transpose(0, 1).flatten(1) for z in seen]
    return [f"{int((z <= 0).all(1).sum())}/{len(z)}" for z in flat], right


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.from_numpy(np.load(SAMPLES / "digits.npz")["x"])


def test_the_data_is_all_of_digits(x: Tensor) -> None:
    assert x.shape == (1797, 64)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (0, 1)


def test_the_files_are_small() -> None:
    assert sum(file.stat().st_size for file in SAMPLES.iterdir() if file.is_file()) < 1_000_000


def test_the_readme_makes_a_claim_for_every_model() -> None:
    assert sorted(CLAIMS) == sorted(file.name for file in SAMPLES.glob("*.pt"))


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_the_readme_is_true(name: str, x: Tensor) -> None:
    dead, right = dead_by_hooks(load(SAMPLES / name), x)
    assert ", ".join(dead) == CLAIMS[name]["dead"]
    assert f"{right:.1%}" == CLAIMS[name]["accuracy"] + "%"


def test_the_checkpoints_are_of_one_training() -> None:
    first, second, third = (load(SAMPLES / f"epoch_{epoch:02}.pt")[0].weight for epoch in (1, 5, 15))
    # A dead unit gets no gradient, so its weights stay where they are once Adam's momentum has run out.
    moved = (third - second).abs().amax(1)
    assert (moved < 1e-4).sum() == 28
    assert (moved > 1).sum() == 4
    assert ((second - first).abs().amax(1) < 0.2).sum() == 28


@pytest.mark.parametrize("name", ["healthy.pt", "dying.pt", "epoch_15.pt", "conv.pt"])
def test_whole_models_hold_torch_nn_classes_only(name: str) -> None:
    asked = torch.serialization.get_unsafe_globals_in_checkpoint(SAMPLES / name)
    assert asked
    assert all(path.startswith("torch.nn.modules.") for path in asked)


def test_the_script_makes_the_same_kind_of_files(tmp_path: Path, x: Tensor) -> None:
    pytest.importorskip("sklearn")
    command = [sys.executable, str(SAMPLES / "make_samples.py"), "--out", str(tmp_path), "--epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted([*CLAIMS, "digits.npz"])
    assert torch.equal(torch.from_numpy(np.load(tmp_path / "digits.npz")["x"]), x)
    for name, row in CLAIMS.items():
        made = [dead.split("/")[1] for dead in dead_by_hooks(load(tmp_path / name), x)[0]]
        assert made == [dead.split("/")[1] for dead in row["dead"].split(", ")]
