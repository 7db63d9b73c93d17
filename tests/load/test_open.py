"""Opening what the user calls MODEL, with their code and their trust."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deadrelu import open_model
from deadrelu.errors import ArchitectureError, FileError, TrustError, UsageError
from deadrelu.load.trust import Trust

Save = Callable[..., Path]

CODE = """
import torch
from torch import nn
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
    def forward(self, x):
        return torch.relu(self.fc(x))
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())
        self.extra = [nn.ReLU()]
    def forward(self, x):
        return self.extra[0](self.blocks(x))
if __name__ == "__main__":
    torch.manual_seed(1)
    net = Net()
    torch.save(net, "custom.pt")
    torch.save(net(torch.ones(1, 3)), "expected.pt")
"""


@pytest.fixture
def custom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file whose classes were pickled as `__main__.Net` by a script, and the script beside it as usernet.py."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "usernet.py").write_text(CODE)
    subprocess.run([sys.executable, "usernet.py"], check=True)
    yield tmp_path / "custom.pt"
    sys.modules.pop("usernet", None)


def test_the_description_holds_path_format_hash_and_size(save: Save) -> None:
    path = save(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    info = open_model(str(path)).info
    assert (info.path, info.format, info.parameters) == (str(path), "torch-module", 9)
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.usefixtures("custom")
def test_code_opens_as_a_model_with_its_initial_weights() -> None:
    for spec in ("usernet.py:Net", "usernet:Net"):
        opened = open_model(spec)
        assert type(opened.module).__name__ == "Net"
        assert (opened.info.format, opened.info.sha256) == ("architecture", None)
    with pytest.raises(UsageError, match="is code already"):
        open_model("usernet.py:Net", arch="usernet.py:Net")


def test_a_file_of_custom_classes_is_refused_naming_them_all(custom: Path) -> None:
    with pytest.raises(TrustError, match=r"asks to run code: __main__\.Block, __main__\.Net \(") as raised:
        open_model(custom)
    assert "--arch FILE.py:Net" in raised.value.hint


def test_classes_pickled_from_a_script_are_found_in_the_file_that_arch_names(custom: Path) -> None:
    module = open_model(custom, arch="usernet.py:Net").module
    assert type(module).__module__ == "usernet"
    assert torch.equal(module(torch.ones(1, 3)), torch.load("expected.pt"))


def test_a_whole_module_must_be_of_the_class_that_arch_names(custom: Path) -> None:
    with pytest.raises(ArchitectureError, match="holds a whole Net, not a Block"):
        open_model(custom, arch="usernet.py:Block")


def test_allowed_classes_are_imported_and_no_others(custom: Path, save: Save) -> None:
    from importlib import import_module

    sys.path.insert(0, str(custom.parent))
    net = import_module("usernet").Net()
    path = save(net)
    with pytest.raises(TrustError, match=r"asks to run code: usernet\.Block \("):
        open_model(path, trust=Trust(allow=("usernet.Net",)))
    module = open_model(path, trust=Trust(allow=("usernet.Net", "usernet.Block"))).module
    assert torch.equal(module(torch.ones(1, 3)), net(torch.ones(1, 3)))


def test_to_allow_a_function_is_refused(save: Save, payload: Any, marker: Path) -> None:
    net = nn.Sequential(nn.ReLU())
    vars(net[0])["note"] = payload
    with pytest.raises(TrustError, match="it is not a class"):
        open_model(save(net), trust=Trust(allow=("builtins.exec",)))
    assert not marker.exists()


def test_trust_runs_the_file_and_a_matching_hash_does_but_another_does_not(
    save: Save, payload: Any, marker: Path
) -> None:
    net = nn.Sequential(nn.ReLU())
    vars(net[0])["note"] = payload
    path = save(net)
    with pytest.raises(TrustError):
        open_model(path, trust=Trust(sha256=("0" * 64,)))
    assert not marker.exists()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert isinstance(open_model(path, trust=Trust(sha256=(digest.upper(),))).module, nn.Sequential)
    assert marker.exists()


def test_trusted_code_that_cannot_be_found_asks_for_arch_and_is_found_with_it(custom: Path) -> None:
    with pytest.raises(ArchitectureError, match="cannot be unpickled") as raised:
        open_model(custom, trust=Trust(all=True))
    assert "--arch" in raised.value.hint
    # The old format is the one whose modules can only be unpickled, whatever their classes.
    torch.save(open_model(custom, arch="usernet.py:Net").module, "old.pt", _use_new_zipfile_serialization=False)
    renamed = Path("old.pt").read_bytes().replace(b"cusernet\n", b"c__main__\n")
    Path("old.pt").write_bytes(renamed)
    module = open_model("old.pt", arch="usernet.py:Net", trust=Trust(all=True)).module
    assert torch.equal(module(torch.ones(1, 3)), torch.load("expected.pt"))


def test_trust_runs_nothing_where_the_weights_can_be_read_without(save: Save, payload: Any, marker: Path) -> None:
    path = save({"state_dict": nn.Linear(2, 2).state_dict(), "extra": payload})
    open_model(path, arch="torch.nn:Linear", arch_args={"in_features": 2, "out_features": 2}, trust=Trust(all=True))
    assert not marker.exists()


def test_a_module_inside_a_checkpoint_opens_and_several_are_listed(save: Save) -> None:
    opened = open_model(save({"model": nn.Sequential(nn.ReLU()), "epoch": 3}))
    assert isinstance(opened.module, nn.Sequential)
    assert opened.info.format == "torch-checkpoint"
    both = save({"model": nn.Sequential(nn.ReLU()), "ema": nn.Linear(2, 2)})
    with pytest.raises(UsageError, match="'model', 'ema'"):
        open_model(both)
    assert isinstance(open_model(both, weights_key="ema").module, nn.Linear)


def test_a_legacy_whole_module_opens_with_trust(save: Save) -> None:
    path = save(nn.Sequential(nn.Linear(2, 2)), _use_new_zipfile_serialization=False)
    opened = open_model(path, trust=Trust(all=True))
    assert isinstance(opened.module, nn.Sequential)
    assert opened.info.format == "torch-legacy"


def test_a_missing_file_and_a_torchscript_archive_say_so(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no file"):
        open_model(tmp_path / "none.pt")
    torch.jit.script(nn.ReLU()).save(str(tmp_path / "s.pt"))
    with pytest.raises(TrustError, match="TorchScript"):
        open_model(tmp_path / "s.pt")


def test_weights_that_are_not_finite_are_counted(save: Save) -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        net[0].bias[0] = torch.nan
    assert open_model(save(net)).info.nonfinite_weights == {"0.bias": 1}


def test_code_has_the_same_initial_weights_each_time_and_leaves_the_dice_alone(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\n\ndef make():\n    return nn.Linear(3, 2)\n")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (open_model(f"{tmp_path / 'net.py'}:make").module for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(before, torch.get_rng_state())
