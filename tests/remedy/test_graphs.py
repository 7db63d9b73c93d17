"""Patching graphs: TorchScript, exported programs, and eager models turned into one on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import TrustError, UsageError
from deadrelu.load.trust import Trust


class Net(nn.Module):
    """A shared module called twice, the second time on other features, and a functional call."""

    def __init__(self, act: type[nn.Module] = nn.ReLU, slope: float | None = None) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 4)
        self.act = act() if slope is None else act(slope)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.b(self.act(self.a(x))))
        z = self.c(x)
        return F.relu(z) if self.slope is None else F.leaky_relu(z, self.slope)


class Rectified(Net):
    """The same with nothing that scripting would have to decide."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.c(self.act(self.b(self.act(self.a(x))))))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    model = Rectified().eval()
    with torch.no_grad():
        model.a.bias[[2, 5]] = -1e3
        model.b.bias[1] = -1e3
        model.c.bias[0] = -1e3
    return model


@pytest.fixture
def data(tmp_path: Path) -> Tensor:
    x = torch.randn(320, 6, generator=torch.Generator().manual_seed(1))
    torch.save(x, tmp_path / "x.pt")
    return x


def saved(kind: str, model: nn.Module, path: Path) -> Path:
    """The model in one of the graph formats."""
    if kind == "pt2":
        sizes = ({0: torch.export.Dim("n")},)
        torch.export.save(torch.export.export(model, (torch.randn(3, 6),), dynamic_shapes=sizes), path)
    elif kind == "scripted":
        torch.jit.save(torch.jit.script(model), path)
    else:
        torch.jit.save(torch.jit.trace(model, torch.randn(3, 6)), path)
    return path


@pytest.mark.usefixtures("fresh_process")
@pytest.mark.parametrize("kind", ["scripted", "traced", "pt2"])
def test_a_patched_graph_equals_the_eager_swap_and_is_read_back(
    kind: str, model: nn.Module, data: Tensor, tmp_path: Path
) -> None:
    path = saved(kind, model, tmp_path / "model.bin")
    result = deadrelu.patch(
        path, str(tmp_path / "x.pt"), output=tmp_path / "out.bin", sites=["all"], slope=0.1, trust=Trust(all=True)
    )
    by_hand = Net(nn.LeakyReLU, 0.1).eval()
    by_hand.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = by_hand(data)
        loaded = (
            torch.export.load(tmp_path / "out.bin").module() if kind == "pt2" else torch.jit.load(tmp_path / "out.bin")
        )
        assert torch.equal(loaded(data), expected)
    assert [c.site for c in result.changes] == ["act#1", "act#2", "c:relu"]
    assert len(result.changes[0].dead_before) >= 2
    reached = [None if c.with_gradient is None else list(c.with_gradient) for c in result.changes]
    if kind == "pt2":
        assert reached == [list(c.dead_before) for c in result.changes]
        assert result.notes == ()
    else:
        assert reached == [None] * 3, "nothing is claimed of gradient that was not taken"
        assert "was not measured" in result.notes[0]
    assert result.parameters_changed == ()


@pytest.mark.parametrize("kind", ["scripted", "pt2"])
def test_one_call_of_a_shared_module_can_be_swapped_alone_in_a_graph(
    kind: str, model: nn.Module, data: Tensor, tmp_path: Path
) -> None:
    path = saved(kind, model, tmp_path / "model.bin")
    result = deadrelu.patch(
        path, str(tmp_path / "x.pt"), output=tmp_path / "out.bin", sites=["act#2"], slope=0.1, trust=Trust(all=True)
    )
    with torch.no_grad():
        expected = F.relu(model.c(F.leaky_relu(model.b(model.act(model.a(data))), 0.1)))
        loaded = (
            torch.export.load(tmp_path / "out.bin").module() if kind == "pt2" else torch.jit.load(tmp_path / "out.bin")
        )
        assert torch.equal(loaded(data), expected)
    assert result.dead_after["act#2"] == 0
    assert result.dead_after["act#1"] == result.dead_before["act#1"]


def test_an_eager_model_with_functional_calls_is_swapped_on_its_way_to_pt2(
    model: nn.Module, data: Tensor, tmp_path: Path
) -> None:
    """The class is this test's own, so that the file that it is in has to be named."""
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    spec = f"{__file__}:Rectified"
    result = deadrelu.patch(
        tmp_path / "weights.pt", str(tmp_path / "x.pt"), output=tmp_path / "out.pt2", arch=spec, slope=0.1, to_pt2=True
    )
    assert {c.site for c in result.changes} == {"act#1", "act#2", "c:relu"}
    assert result.refused == ()
    loaded = torch.export.load(tmp_path / "out.pt2").module()
    by_hand = Net(nn.LeakyReLU, 0.1).eval()
    by_hand.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(loaded(data), by_hand(data))
        assert loaded(data[:7]).shape == (7, 4), "any batch size was lost"


def test_a_graph_is_not_opened_for_a_patch_without_trust(model: nn.Module, data: Tensor, tmp_path: Path) -> None:
    del data
    path = saved("scripted", model, tmp_path / "model.bin")
    with pytest.raises(TrustError, match="--trust"):
        deadrelu.patch(path, str(tmp_path / "x.pt"), output=tmp_path / "out.bin")
    assert not (tmp_path / "out.bin").exists()


def test_trust_in_one_file_by_its_hash_is_enough(model: nn.Module, data: Tensor, tmp_path: Path) -> None:
    from deadrelu.load.trust import sha256_of

    del data
    path = saved("scripted", model, tmp_path / "model.bin")
    result = deadrelu.patch(
        path, str(tmp_path / "x.pt"), output=tmp_path / "out.bin", trust=Trust(sha256=(sha256_of(path),))
    )
    assert result.output == str(tmp_path / "out.bin")


@pytest.mark.parametrize("options", [{"only_dead_units": True}, {"reinit": True}])
def test_what_needs_modules_is_refused_in_a_graph(
    options: dict[str, bool], model: nn.Module, data: Tensor, tmp_path: Path
) -> None:
    del data
    path = saved("scripted", model, tmp_path / "model.bin")
    with pytest.raises(UsageError, match="is a graph"):
        deadrelu.patch(path, str(tmp_path / "x.pt"), output=tmp_path / "out.bin", trust=Trust(all=True), **options)  # type: ignore[arg-type]
