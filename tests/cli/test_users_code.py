"""Whatever the user's code raises or changes, the command ends with its own exit code, one line, and its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import check_refusal, deadrelu

HEAD = """
import asyncio, os, random, sys
import numpy as np
import torch
from torch import nn

class Own(BaseException):
    pass

def act():
    {act}

"""

PLACES = {
    "forward": """
class Net(nn.Module):
    def forward(self, x):
        act()
        return torch.relu(x)
def data():
    yield torch.randn(8, 4)
""",
    "constructor": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        act()
    def forward(self, x):
        return torch.relu(x)
def data():
    yield torch.randn(8, 4)
""",
    "loader": """
class Net(nn.Module):
    def forward(self, x):
        return torch.relu(x)
def data():
    yield torch.randn(8, 4)
    act()
""",
    "callable": """
class Net(nn.Module):
    def forward(self, x):
        return torch.relu(x)
def data():
    act()
    return [torch.randn(8, 4)]
""",
    "dataset": """
class Net(nn.Module):
    def forward(self, x):
        return torch.relu(x)
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, i):
        act()
        return torch.randn(4)
data = Rows()
""",
    "import": """
act()
class Net(nn.Module):
    def forward(self, x):
        return torch.relu(x)
def data():
    yield torch.randn(8, 4)
""",
    "eval": """
class Net(nn.Module):
    def train(self, mode=True):
        act()
        return self
    def forward(self, x):
        return torch.relu(x)
def data():
    yield torch.randn(8, 4)
""",
    "attribute": """
class Net(nn.Module):
    @property
    def example_input_array(self):
        act()
    def modules(self):
        act()
        return super().modules()
    def forward(self, x):
        return torch.relu(x)
def data():
    yield torch.randn(8, 4)
""",
}

RAISED = {
    "cancelled": ("raise asyncio.CancelledError('off')", "CancelledError"),
    "generator exit": ("raise GeneratorExit('off')", "GeneratorExit"),
    "own": ("raise Own('off')", "Own"),
    "sys.exit 1": ("sys.exit(1)", "1"),
    "sys.exit 0": ("sys.exit(0)", "0"),
}


def net(folder: Path, act: str, place: str) -> str:
    (folder / "net.py").write_text(HEAD.format(act=act) + PLACES[place])
    return "net.py"


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("place", PLACES)
def test_what_the_users_code_raises_is_exit_2_and_one_line(place: str, raised: str, tmp_path: Path) -> None:
    act, named = RAISED[raised]
    file = net(tmp_path, act, place)
    check_refusal(deadrelu("scan", f"{file}:Net", "--data", f"{file}:data", cwd=tmp_path), named)


@pytest.mark.parametrize("place", ["forward", "loader", "constructor", "import"])
def test_ctrl_c_is_130_wherever_it_strikes(place: str, tmp_path: Path) -> None:
    file = net(tmp_path, "raise KeyboardInterrupt", place)
    done = deadrelu("scan", f"{file}:Net", "--data", f"{file}:data", cwd=tmp_path)
    assert (done.code, done.out) == (130, "")


@pytest.mark.parametrize("place", ["forward", "constructor", "loader", "callable", "dataset", "import", "eval"])
@pytest.mark.parametrize("data", ["code", "file", "images"])
def test_who_changes_the_working_folder_moves_none_of_our_files(place: str, data: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file = net(tmp_path, "os.makedirs('elsewhere', exist_ok=True); os.chdir('elsewhere')", place)
    given = f"{file}:data"
    if data == "file":
        import numpy as np

        np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(200, 4)).astype("float32"))
        given = "rows.npy"
    elif data == "images":
        pillow = pytest.importorskip("PIL.Image")
        (tmp_path / "images").mkdir()
        for number in range(70):  # more than one batch
            pillow.new("RGB", (4, 4), (number, 0, 200)).save(tmp_path / "images" / f"{number}.png")
        given = "images"
    axis = ("--feature-axis", "1")  # nothing before or after the ReLU tells which axis of an image holds its units
    done = deadrelu("scan", f"{file}:Net", "--data", given, *axis, "-o", "json=report.json", cwd=tmp_path)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["sites"][0]["source"]["file"] == "net.py"
    assert not list((tmp_path / "elsewhere").rglob("*.json"))


def test_code_that_changes_the_folder_finds_its_own_files_there(tmp_path: Path) -> None:
    """As in plain Python: what the file did when it was imported still holds when its loader runs."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "net.py").write_text(
        "import os, torch\nfrom torch import nn\nos.chdir(os.path.dirname(os.path.abspath(__file__)))\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        open('size.txt').read()\n"
        "    def forward(self, x):\n        open('size.txt').read()\n        return torch.relu(x)\n"
        "def data():\n    for _ in range(3):\n        yield torch.ones(int(open('size.txt').read()), 4)\n"
    )
    (tmp_path / "sub" / "size.txt").write_text("8")
    done = deadrelu(
        "scan", "sub/net.py:Net", "--data", "sub/net.py:data", "-o", "json=report.json", "--quiet", cwd=tmp_path
    )
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "report.json").read_text())["data"]["samples"] == 24
