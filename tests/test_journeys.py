"""Three newcomers, each in a clean folder: they type their own names, and copy everything else from what is printed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from tests.cli.conftest import Done, deadrelu

RESNET = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
        self.relu = nn.ReLU(inplace=True)
        same = stride == 1 and cin == cout
        shortcut = [nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout)]
        self.downsample = None if same else nn.Sequential(*shortcut)

    def forward(self, x):
        skip = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += skip
        return self.relu(x)

class ResNet(nn.Module):
    def __init__(self, num_classes=1000, width=8):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        for n in range(1, 5):
            first = Block(widths[n - 1], widths[n], 1 if n == 1 else 2)
            setattr(self, f"layer{n}", nn.Sequential(first, Block(widths[n], widths[n])))
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))

def resnet18(num_classes=1000):
    return ResNet(num_classes)
"""

SAVE_RESNET = """
import sys
import torch
from nets.resnet import resnet18

torch.manual_seed(0)
model = resnet18(num_classes=10)
with torch.no_grad():
    model.bn1.bias[:2] = -50.0
    for n in range(1, 5):
        for block in getattr(model, f"layer{n}"):
            block.bn1.bias[: 1 + int(sys.argv[1])] = -50.0
            block.bn2.bias[: 1 + int(sys.argv[1])] = -50.0
            if block.downsample is not None:
                block.downsample[1].bias[:1] = -50.0
torch.save(model.state_dict(), "resnet.pth")
"""

FUNCTIONAL = """
import torch
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 24), nn.Linear(24, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = F.relu(self.a(x))
        x = F.relu(self.b(x))
        return self.c(x)

if __name__ == "__main__":
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        model.a.bias[:5] = -50.0
        model.b.bias[[2, 3]] = -50.0
    torch.save(model, "net.pt")
"""

DIABETES = """
import sys
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

data = np.load("diabetes.npz")
x = torch.tensor(data["x"], dtype=torch.float32) * 20
y = torch.tensor(data["y"], dtype=torch.float32)[:, None] / 100

def loader():
    return DataLoader(TensorDataset(x, y), batch_size=32)

if __name__ == "__main__":
    torch.manual_seed(int(sys.argv[1]))
    model = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=float(sys.argv[2]), momentum=0.9)
    for epoch in range(1, 11):
        for inputs, targets in loader():
            loss = nn.functional.mse_loss(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        torch.save(model, f"epoch{epoch:02}.pt")
"""


class Newcomer:
    """A person in a folder, who types a command and copies the next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = Done(0, "", "")

    def types(self, line: str, *, code: int = 0) -> Done:
        """One command line; it must end with this exit code."""
        program, *words = shlex.split(line)
        if program == "python":
            done = python(self.folder, *words)
        else:
            assert program == "deadrelu"
            done = deadrelu(*words, cwd=self.folder, COLUMNS="80")
        assert done.code == code, f"{line}\n{done.out}\n{done.err}"
        self.last = done
        return done

    def copies(self, kind: str, *, code: int = 0) -> Done:
        """The first printed command of this kind."""
        return self.types(self.printed(kind), code=code)

    def printed(self, kind: str) -> str:
        """The first command of this kind in the last output."""
        found = re.search(rf"^\s*(deadrelu {kind}\b.*)$", self.last.out, re.MULTILINE)
        assert found, self.last
        return found[1]

    def added(self) -> str:
        """The options that the last error says to add."""
        found = re.search(r"(?:add|with) (--[^,;]+)", self.last.error)
        assert found, self.last.error
        return found[1]

    def applies_edits(self) -> int:
        """Make each edit of the source that the last output shows, once; returns how many there were."""
        edits = re.findall(r"^\s*(\S+\.py):(\d+)(?::\d+)?\n\s*- (.+)\n\s*\+ (.+)$", self.last.out, re.MULTILINE)
        for file, line, old, new in dict.fromkeys(edits):
            path = self.folder / file
            lines = path.read_text().splitlines(keepends=True)
            assert old in lines[int(line) - 1]
            lines[int(line) - 1] = lines[int(line) - 1].replace(old, new, 1)
            path.write_text("".join(lines))
        return len(dict.fromkeys(edits))


def python(folder: Path, *words: str) -> Done:
    """The user's own script."""
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def newcomer(tmp_path: Path) -> Newcomer:
    """In a clean folder."""
    return Newcomer(tmp_path)


def last_lines(text: str, count: int = 12) -> str:
    """The end of an output as one line, where a CI log is read."""
    return " ".join(" ".join(text.splitlines()[-count:]).split())


def test_a_resnet_of_a_package_from_its_state_dict_to_a_gate(newcomer: Newcomer) -> None:
    """The code of the package is not theirs to edit; its ReLUs are shared by two calls each."""
    package = newcomer.folder / "nets"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "resnet.py").write_text(RESNET)
    (newcomer.folder / "save.py").write_text(SAVE_RESNET)
    images = np.random.default_rng(0).normal(size=(320, 3, 16, 16)).astype("f4")
    np.savez(newcomer.folder / "val.npz", x=images, y=np.zeros(320))
    newcomer.types("python save.py 1")

    command = "deadrelu scan resnet.pth --data val.npz"
    newcomer.types(command, code=2)
    assert newcomer.added() == "--arch path/to/model.py:ClassName"
    command += " --arch nets.resnet:resnet18"
    newcomer.types(command, code=2)
    command += f" {newcomer.added()}"
    assert command.endswith("--arch-arg num_classes=10")
    first = newcomer.types(command)
    assert "PASS no limit was given" in last_lines(newcomer.last.out)

    advice = newcomer.copies("suggest")
    assert len(advice.out.splitlines()) <= 45
    patched = newcomer.copies("patch")
    assert "please report it" not in patched.out
    newcomer.copies("scan")
    assert re.search(r"! relu +8 +2 ", first.out)
    assert re.search(r"! relu +8 +0 ", newcomer.last.out)  # the others are dead in one call of a shared ReLU alone

    newcomer.types(f"{command} --baseline dead.json", code=2)
    newcomer.types(f"{command} --baseline dead.json {newcomer.added()}")
    newcomer.types(f"{command} --baseline dead.json")
    assert "PASS no more dead units than in dead.json" in last_lines(newcomer.last.out)
    newcomer.types("python save.py 2")  # a second training run, in which more units died
    newcomer.types(f"{command} --baseline dead.json", code=1)
    assert re.search(r"FAIL \d+ of 17 sites have more dead units than dead\.json", last_lines(newcomer.last.out))
    newcomer.types("python save.py 0")  # and a third, in which fewer did
    newcomer.types(f"{command} --baseline dead.json --update-baseline")
    newcomer.types(f"{command} --baseline dead.json")
    assert "PASS no more dead units than in dead.json" in last_lines(newcomer.last.out)


def test_a_pickled_class_with_functional_relus_until_its_code_is_edited(newcomer: Newcomer) -> None:
    """The class was pickled from `__main__`, and its file is at hand."""
    (newcomer.folder / "train.py").write_text(FUNCTIONAL)
    np.save(newcomer.folder / "x.npy", np.random.default_rng(0).normal(size=(400, 6)).astype("f4"))
    newcomer.types("python train.py")

    newcomer.types("deadrelu scan net.pt --data x.npy", code=2)
    assert "--arch FILE.py:Net names the file that defines the class" in newcomer.last.error
    newcomer.types("deadrelu scan net.pt --data x.npy --arch train.py:Net")
    scan = "deadrelu scan net.pt --data x.npy --arch train.py:Net"
    newcomer.types(f"{scan} --baseline dead.json --update-baseline -o json=before.json")
    advice = newcomer.copies("suggest")
    assert "--to pt2" in advice.out
    exported = newcomer.copies("patch")
    assert "wrote  net.patched.pt2" in exported.out
    newcomer.copies("scan")
    newcomer.last = advice
    assert newcomer.applies_edits() == 2
    newcomer.types(f"{scan} --baseline dead.json")
    assert "leak" in newcomer.last.out
    newcomer.types(f"{scan} -o json=after.json")
    newcomer.types("deadrelu diff before.json after.json")
    assert "swapped" in newcomer.last.out


def test_an_mlp_with_ten_checkpoints_and_a_configuration(newcomer: Newcomer) -> None:
    """scikit-learn's diabetes data, from a DataLoader in the training script."""
    x, y = load_diabetes(return_X_y=True)
    np.savez(newcomer.folder / "diabetes.npz", x=x, y=y)  # to import scikit-learn in each command would take its time
    (newcomer.folder / "train.py").write_text(DIABETES)
    newcomer.types("python train.py 0 0.3")
    files = " ".join(f"epoch{epoch:02}.pt" for epoch in range(1, 11))
    newcomer.types(f"deadrelu trend {files} --data train.py:loader")
    assert "epoch10.pt" in newcomer.last.out

    newcomer.types("deadrelu scan epoch10.pt --data train.py:loader")
    newcomer.copies("suggest")
    patch = newcomer.copies("patch")
    assert "The output did not change" in patch.out
    newcomer.copies("scan")

    (newcomer.folder / "deadrelu.toml").write_text(
        'model = "epoch10.pt"\ndata = "train.py:loader"\nbaseline = "dead.json"\n'
    )
    newcomer.types("deadrelu scan --update-baseline")
    newcomer.types("deadrelu scan")
    assert "PASS no more dead units than in dead.json" in last_lines(newcomer.last.out)
    newcomer.copies("suggest")
    known = json.loads((newcomer.folder / "dead.json").read_text())

    newcomer.types("python train.py 1 0.001")  # a second run, with a gentler step
    newcomer.types("deadrelu scan")
    assert "PASS" in last_lines(newcomer.last.out)
    newcomer.types("deadrelu scan --update-baseline")
    better = json.loads((newcomer.folder / "dead.json").read_text())
    assert count_dead(better) < count_dead(known)


def count_dead(baseline: Any) -> int:
    """The dead units that a baseline knows."""
    rules = [site["rules"] for model in baseline["models"].values() for site in model.values()]
    return sum(len(units) for rule in rules for units in rule.values())
