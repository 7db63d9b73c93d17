"""`deadrelu patch` as a user meets it: what is written, what is said, and what is never half written."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.cli.conftest import DIGITS, DYING, HEALTHY, NET, ROOT, WEIGHTS, check_refusal, deadrelu

WITH_TORCH_ALONE = """
import sys
sys.modules["deadrelu"] = None  # an import of it would raise
import torch
from torch import nn
from torch.nn.modules.container import Sequential
from torch.nn.modules.linear import Linear
from torch.nn.modules.activation import LeakyReLU, PReLU
with torch.serialization.safe_globals([Sequential, Linear, LeakyReLU, PReLU]):
    model = torch.load(sys.argv[1], weights_only=True)
print([type(m).__name__ for m in model])
"""


def test_the_dying_sample_is_written_for_plain_torch_and_no_unit_is_dead_after(tmp_path: Path) -> None:
    out = tmp_path / "patched.pt"
    done = deadrelu("patch", DYING, "--slope", "0.01", "--data", DIGITS, "-o", str(out), "--format", "json", "-q")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["dead_before"] == {"1": 125, "3": 117, "5": 57}
    assert said["dead_after"] == {"1": 0, "3": 0, "5": 0}
    assert [len(change["with_gradient"]) for change in said["changes"]] == [125, 117, 57]
    assert said["parameters_changed"] == []
    alone = subprocess.run(
        [sys.executable, "-c", WITH_TORCH_ALONE, str(out)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert alone.stdout.count("LeakyReLU") == 3
    again = deadrelu("scan", str(out), "--data", DIGITS)
    assert again.code == 0, "no unit of a leaky ReLU is dead"
    assert "No unit was found dead" in " ".join(again.out.split())


def test_a_state_dict_becomes_a_whole_module_and_the_source_edits_are_printed(tmp_path: Path) -> None:
    out = tmp_path / "patched.pt"
    done = deadrelu("patch", WEIGHTS, "--arch", NET, "--data", DIGITS, "-o", str(out), COLUMNS="200")
    assert done.code == 0, done.err
    assert f"A whole module was written, because {WEIGHTS} holds weights and no activations" in done.out
    assert "- F.relu(self.hidden(x.flatten(1)))\n" in done.out
    assert "+ F.leaky_relu(self.hidden(x.flatten(1)), 0.01)\n" in done.out
    assert "- nn.ReLU(inplace=True)\n" in done.out
    again = deadrelu("scan", str(out), "--arch", NET, "--data", DIGITS, "--format", "json")
    rectified = [site["id"] for site in json.loads(again.out)["sites"] if site["op"] == "relu"]
    assert rectified == ["hidden:relu", "narrow:relu"]


def test_without_model_the_configuration_names_it_and_the_tool_says_which(tmp_path: Path) -> None:
    shutil.copy(DYING, tmp_path / "net.pt")
    shutil.copy(DIGITS, tmp_path / "val.npz")
    (tmp_path / "pyproject.toml").write_text('[tool.deadrelu]\nmodel = "net.pt"\ndata = "val.npz"\n')
    inner = tmp_path / "deep" / "er"
    inner.mkdir(parents=True)
    done = deadrelu("patch", "--slope", "0.01", cwd=inner)
    assert done.code == 0, done.err
    assert "net.pt" in done.err
    assert "pyproject.toml" in done.err
    assert (tmp_path / "net.patched.pt").exists()


def test_a_diff_and_nothing_to_do_write_nothing(tmp_path: Path) -> None:
    model = tmp_path / "m.pt"
    shutil.copy(DYING, model)
    shown = deadrelu("patch", str(model), "--data", DIGITS, "--diff")
    assert shown.code == 0
    assert "Nothing was written" in shown.out
    shutil.copy(HEALTHY, model)
    healthy = deadrelu("patch", str(model), "--data", DIGITS)
    assert healthy.code == 0
    assert "Nothing to do" in healthy.out
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--slope", "2"), "--slope is 2"),
        (("--with", "tanh"), "tanh"),
        (("--sites", "nowhere"), "matches no site"),
        (("--only-dead-units", "--with", "elu"), "--only-dead-units cannot be done with elu"),
    ],
)
def test_orders_that_cannot_be_followed_are_one_line(tmp_path: Path, flags: tuple[str, ...], says: str) -> None:
    done = deadrelu("patch", DYING, "--data", DIGITS, "-o", str(tmp_path / "x.pt"), *flags)
    check_refusal(done, says)
    assert list(tmp_path.iterdir()) == []


def test_functional_sites_alone_are_a_refusal_with_the_edits(tmp_path: Path) -> None:
    done = deadrelu("patch", WEIGHTS, "--arch", NET, "--data", DIGITS, "--sites", ":*", "-o", str(tmp_path / "x.pt"))
    assert done.code == 2
    assert "F.leaky_relu" in done.out
    assert "none of the chosen sites" in done.error
    assert "--to pt2" in done.err
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
import numpy as np
left = int(os.environ["KILL_AT"])
def watch(event, args):
    global left
    if event in ("open", "os.chmod", "os.rename") and "out.pt" in os.path.basename(str(args[0])):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
data = np.load({data!r})["x"][:64]
"""


def test_killed_at_any_step_of_the_writing_the_old_file_is_there_and_after_it_the_whole_new_one(tmp_path: Path) -> None:
    """From the data's code each step on a file of that name is watched; the last one puts the new file in its place."""
    out = tmp_path / "out.pt"
    torch.save(nn.Linear(1, 1), out)
    old = out.read_bytes()
    (tmp_path / "rows.py").write_text(KILLED.format(data=DIGITS))
    command = ("patch", DYING, "--data", "rows.py:data", "-o", "out.pt", "--force", "-q")
    for step in (1, 3, 4, 6, 10):  # each but the last is before the proof, which takes its time
        assert deadrelu(*command, cwd=tmp_path, KILL_AT=str(step)).code == -signal.SIGKILL
        assert out.read_bytes() == old
    assert deadrelu(*command, cwd=tmp_path, KILL_AT="11").code == 0
    assert [type(module).__name__ for module in torch.load(out, weights_only=False)].count("LeakyReLU") == 3


def test_the_finetuning_example_recovers_what_the_unpatched_model_does_not(tmp_path: Path) -> None:
    """The README's own commands for the dying sample; accuracy on digits that no training has seen."""
    out = tmp_path / "patched.pt"
    done = deadrelu("patch", DYING, "--slope", "0.01", "--reinit", "--data", DIGITS, "-o", str(out), "-q")
    assert done.code == 0, done.err
    tuned = subprocess.run(
        [sys.executable, str(ROOT / "sample_models" / "finetune.py"), DYING, str(out), "--steps", "300"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    unpatched, patched = (float(line.split(", ")[1].split("%")[0]) for line in tuned.stdout.splitlines())
    assert unpatched < 92
    assert patched > 96
