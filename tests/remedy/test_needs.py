"""A result says what opening the written file needs, and just that opens it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import DeadreluError
from deadrelu.load.trust import Trust
from deadrelu.report.advice import PatchResult
from tests.remedy.test_graphs import Rectified

SPEC = f"{Path(__file__).parent / 'test_graphs.py'}:Rectified"


@pytest.fixture
def data(tmp_path: Path) -> Tensor:
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(1))
    torch.save(x, tmp_path / "x.pt")
    return x


def ailing() -> Rectified:
    torch.manual_seed(0)
    model = Rectified().eval()
    with torch.no_grad():
        model.a.bias[2] = model.b.bias[1] = model.b.bias[2] = model.c.bias[0] = -1e3
    return model


def checked(result: PatchResult, out: Path) -> None:
    """The hash is that of the file; what it needs opens it, and less does not."""
    assert result.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    trust = Trust(sha256=(result.sha256,)) if result.needs_trust else Trust()
    assert deadrelu.open_model(out, arch=result.needs_arch, trust=trust).info.sha256 == result.sha256
    if result.needs_trust:
        with pytest.raises(DeadreluError):
            deadrelu.open_model(out, arch=result.needs_arch)
    if result.needs_arch:
        with pytest.raises(DeadreluError):
            deadrelu.open_model(out, trust=trust)


def test_a_module_of_torchs_own_classes_needs_nothing(tmp_path: Path, data: Tensor) -> None:
    del data
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 2))
    torch.save(model, tmp_path / "m.pt")
    result = deadrelu.patch(tmp_path / "m.pt", str(tmp_path / "x.pt"), output=tmp_path / "out.pt", sites=["all"])
    assert (result.needs_trust, result.needs_arch) == (False, None)
    checked(result, tmp_path / "out.pt")


@pytest.mark.usefixtures("fresh_process")
def test_weights_whose_code_was_given_need_that_code(tmp_path: Path, data: Tensor) -> None:
    del data
    torch.save(ailing().state_dict(), tmp_path / "w.pt")
    options = {"output": tmp_path / "out.pt", "sites": ["act#*"], "arch": SPEC}
    result = deadrelu.patch(tmp_path / "w.pt", str(tmp_path / "x.pt"), **options)  # type: ignore[arg-type]
    assert (result.needs_trust, result.needs_arch) == (False, SPEC)
    checked(result, tmp_path / "out.pt")


def test_a_pickled_class_of_a_package_needs_trust(tmp_path: Path, data: Tensor) -> None:
    del data
    torch.save(ailing(), tmp_path / "m.pt")
    options = {"output": tmp_path / "out.pt", "sites": ["act#*"], "trust": Trust(all=True)}
    result = deadrelu.patch(tmp_path / "m.pt", str(tmp_path / "x.pt"), **options)  # type: ignore[arg-type]
    assert (result.needs_trust, result.needs_arch) == (True, None)
    checked(result, tmp_path / "out.pt")


def test_an_exported_program_needs_trust_and_no_code(tmp_path: Path, data: Tensor) -> None:
    del data
    torch.save(ailing().state_dict(), tmp_path / "w.pt")
    options = {"output": tmp_path / "out.pt2", "arch": SPEC, "to_pt2": True}
    result = deadrelu.patch(tmp_path / "w.pt", str(tmp_path / "x.pt"), **options)  # type: ignore[arg-type]
    assert (result.needs_trust, result.needs_arch) == (True, None)
    checked(result, tmp_path / "out.pt2")
    assert set(result.to_dict()) >= {"sha256", "needs_trust", "needs_arch"}
