"""TorchScript archives: refused by name, opened with trust."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu import open_model
from deadrelu.errors import DeadreluError, FileError, TrustError, UsageError
from deadrelu.load.traced import read_traced
from deadrelu.load.trust import Trust, sha256_of
from deadrelu.programs.script.program import Example, TorchScriptProgram

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TRUSTED = Trust(all=True)


class Spy(nn.Module):
    """Writes a file while it is loaded: TorchScript calls `__setstate__`, and that may save tensors anywhere."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.weight = torch.ones(2)

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, str, bool]:
        return self.weight, self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, str, bool]) -> None:
        self.weight = state[0]
        self.path = state[1]
        self.training = state[2]
        torch.save(self.weight, self.path)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.weight)


@pytest.fixture
def spying(tmp_path: Path, marker: Path) -> Path:
    """An archive that makes the marker while it is loaded."""
    script = torch.jit.script(Spy(str(marker)))
    script.save(str(tmp_path / "spy.pt"))
    marker.unlink(missing_ok=True)
    return tmp_path / "spy.pt"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An ordinary archive."""
    torch.manual_seed(0)
    torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval()).save(str(tmp_path / "m.pt"))
    return tmp_path / "m.pt"


def test_an_archive_is_refused_with_what_is_in_it(archive: Path) -> None:
    with pytest.raises(TrustError, match=r"is a TorchScript archive, which is a program: \d+ code files") as raised:
        open_model(archive)
    assert f"--trust-sha256 {sha256_of(archive)}" in raised.value.hint


def test_code_that_runs_on_load_is_named_and_does_not_run_without_trust(spying: Path, marker: Path) -> None:
    with pytest.raises(TrustError, match=r"runs while it loads \(__setstate__ in code/\S*\.py\)") as raised:
        open_model(spying)
    assert "reach outside the model" in raised.value.message
    assert "save" in raised.value.message
    with pytest.raises(TrustError):
        open_model(spying, trust=Trust(sha256=("0" * 64,)))
    assert not marker.exists()
    open_model(spying, trust=Trust(sha256=(sha256_of(spying),)))
    assert marker.exists(), "the payload does not work, so nothing was tested"


def test_a_trusted_archive_is_scanned(archive: Path) -> None:
    opened = open_model(archive, trust=TRUSTED)
    assert isinstance(opened.program(), TorchScriptProgram)
    assert (opened.info.format, opened.info.parameters) == ("torchscript", 16)
    report = deadrelu.scan(archive, torch.randn(20, 3), trust=TRUSTED)
    assert [s.site.id for s in report.sites] == ["1"]
    assert deadrelu.scan(archive, trust=TRUSTED).data.source == "synthetic normal (3,)"
    with pytest.raises(UsageError, match="its own code"):
        open_model(archive, arch="torch.nn:Linear", trust=TRUSTED)


def test_a_live_script_is_scanned_by_its_graph() -> None:
    torch.manual_seed(0)
    script = torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    assert [s.site.id for s in deadrelu.scan(script, torch.randn(20, 3)).sites] == ["1"]
    assert script.training


def test_a_trace_remembers_the_shape_of_its_input(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 3), nn.ReLU()).eval()
    torch.jit.trace(model, torch.zeros(5, 2, dtype=torch.int64)).save(str(tmp_path / "t.pt"))
    batch = open_model(tmp_path / "t.pt", trust=TRUSTED).program().example_inputs()
    assert batch is not None
    assert batch.samples == 5
    assert batch.args[0].shape == (5, 2)
    assert batch.args[0].max() < 9
    assert deadrelu.scan(tmp_path / "t.pt", trust=TRUSTED).data.samples > 0


def test_the_pickle_of_the_traced_inputs_runs_nothing(payload: Any, marker: Path) -> None:
    assert read_traced(pickle.dumps({"forward": [payload]})) == ()
    assert read_traced(b"\x80\x02") == ()
    assert not marker.exists()
    pickle.loads(pickle.dumps(payload))
    assert marker.exists(), "the payload does not work, so nothing was tested"


class Weighted(nn.Module):
    """Takes two inputs."""

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        return torch.relu(x) * n.sum()


def test_shapes_are_read_from_the_pickle_that_torch_writes() -> None:
    file = io.BytesIO()
    inputs = (torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))
    torch.jit.save(torch.jit.trace(Weighted(), inputs), file)
    with zipfile.ZipFile(file) as zipped:
        name = next(n for n in zipped.namelist() if n.endswith("traced_inputs.pkl"))
        assert read_traced(zipped.read(name)) == (Example((2, 3), torch.float64), Example((2,), torch.int64))


def test_a_flipped_bit_in_a_weight_is_found(archive: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        weight = next(zipped.read(name) for name in zipped.namelist() if name.endswith("/data/0"))
    content = archive.read_bytes()
    place = content.index(weight)
    archive.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(FileError, match="checksum"):
        open_model(archive, trust=TRUSTED)


def test_code_that_unpacks_to_gigabytes_is_refused(archive: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info, old.read(info), info.compress_type)
        with new.open(f"{old.namelist()[0].split('/')[0]}/code/bomb.py", "w") as file:
            for _ in range(300):
                file.write(bytes(1 << 20))
    with pytest.raises(FileError, match="claims"):
        open_model(bomb, trust=TRUSTED)


@pytest.mark.parametrize("trust", [Trust(), TRUSTED])
def test_only_our_errors_come_out_of_an_archive_that_is_cut(archive: Path, trust: Trust) -> None:
    content = archive.read_bytes()
    for end in range(0, len(content), 301):
        archive.write_bytes(content[:end])
        with pytest.raises(DeadreluError):
            open_model(archive, trust=trust)


def test_an_archive_whose_code_torch_cannot_read_is_an_error_of_one_line(archive: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pt"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(broken, "w") as new:
        for info in old.infolist():
            text = old.read(info)
            changed = b"def forward(self:\n" if info.filename.endswith(".py") else text
            new.writestr(info, changed, info.compress_type)
    with pytest.raises(FileError, match="cannot be loaded as TorchScript") as raised:
        open_model(broken, trust=TRUSTED)
    assert "\n" not in raised.value.message
