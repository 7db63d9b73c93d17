"""A swap against one made by hand, to the last bit; and the checks that come with it."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import ModelError, OutputError, UsageError
from deadrelu.load.trust import Trust
from deadrelu.report.advice import PatchResult

Make = Callable[[], nn.Module]

BY_HAND: dict[str, Callable[[bool], nn.Module]] = {
    "leaky_relu": lambda inplace: nn.LeakyReLU(0.02, inplace=inplace),
    "prelu": lambda _: nn.PReLU(init=0.02),
    "elu": lambda inplace: nn.ELU(inplace=inplace),
    "selu": lambda inplace: nn.SELU(inplace=inplace),
    "celu": lambda inplace: nn.CELU(inplace=inplace),
    "gelu": lambda _: nn.GELU(),
    "silu": lambda inplace: nn.SiLU(inplace=inplace),
    "softplus": lambda _: nn.Softplus(),
    "mish": lambda inplace: nn.Mish(inplace=inplace),
    "hardswish": lambda inplace: nn.Hardswish(inplace=inplace),
}


def plain(act: Make) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 16), act(), nn.Linear(16, 12), act(), nn.Linear(12, 4))


def nested(act: Make) -> nn.Sequential:
    inner = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), act())
    return nn.Sequential(inner, nn.Sequential(nn.Conv2d(8, 6, 3), act()), nn.Flatten(), nn.Linear(6 * 4 * 4, 4))


def shared(act: Make) -> nn.Sequential:
    one = act()
    return nn.Sequential(nn.Linear(6, 12), one, nn.Linear(12, 12), one, nn.Sequential(nn.Linear(12, 4), one))


SHAPES = {plain: (6,), nested: (3, 8, 8), shared: (6,)}


def sick(model: nn.Module, seed: int = 0) -> nn.Module:
    """A third of the units of each layer but the last pushed far below zero."""
    generator = torch.Generator().manual_seed(seed)
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    followed = {id(layer): layer for layer in layers}
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight[:2] = 0
                module.bias[:2] = -5
        for layer in list(followed.values())[:-1]:
            layer.bias[torch.rand(len(layer.bias), generator=generator) < 0.33] = -50
    return model


def written(tmp_path: Path, model: nn.Module, data: Tensor, **options: object) -> tuple[PatchResult, nn.Module]:
    """Patch a saved model, and open what was written by torch alone."""
    torch.save(model, tmp_path / "model.pt")
    torch.save(data, tmp_path / "data.pt")
    result = deadrelu.patch(
        tmp_path / "model.pt",
        str(tmp_path / "data.pt"),
        output=tmp_path / "out.pt",
        **options,  # type: ignore[arg-type]
    )
    return result, torch.load(tmp_path / "out.pt", weights_only=False)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("make", SHAPES)
@pytest.mark.parametrize("to", ["leaky_relu", "gelu"])
def test_a_patched_network_equals_one_that_was_built_with_the_other_activation(
    tmp_path: Path, make: Callable[[Make], nn.Sequential], to: str, inplace: bool
) -> None:
    torch.manual_seed(0)
    model = sick(make(lambda: nn.ReLU(inplace=inplace))).eval()
    data = torch.randn(100, *SHAPES[make])
    _, patched = written(tmp_path, model, data, to=to, slope=0.02, sites=["all"])
    by_hand = make(lambda: BY_HAND[to](inplace))
    by_hand.load_state_dict(model.state_dict())
    assert torch.equal(patched(data.clone()), by_hand.eval()(data.clone()))
    assert repr(patched) == repr(by_hand)
    assert len({id(m) for m in patched.modules()}) == len({id(m) for m in by_hand.modules()}), "sharing was lost"


@pytest.mark.parametrize("to", BY_HAND)
def test_every_replacement_equals_the_one_made_by_hand_in_a_live_module(to: str) -> None:
    torch.manual_seed(0)
    model = sick(plain(lambda: nn.ReLU(inplace=True)))
    data = torch.randn(100, 6)
    by_hand = plain(lambda: BY_HAND[to](True))
    by_hand.load_state_dict(model.state_dict(), strict=to != "prelu")
    result = deadrelu.patch(model, data, to=to, slope=0.02, sites=["all"])
    assert torch.equal(model.eval()(data), by_hand.eval()(data))
    assert result.parameters_changed == ()
    assert [c.site for c in result.changes] == ["1", "3"]


@pytest.mark.usefixtures("fresh_process")
def test_the_drift_is_that_of_the_two_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = sick(plain(nn.ReLU)).eval()
    data = torch.randn(150, 6)
    result, patched = written(tmp_path, model, data, sites=["all"])
    with torch.no_grad():
        before, after = model(data).double(), patched(data).double()
    assert result.drift is not None
    assert result.drift.relative_l2 == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-9)
    assert result.drift.largest == pytest.approx(float((after - before).abs().max()), rel=1e-9)
    assert result.drift.same_argmax == float((before.argmax(1) == after.argmax(1)).double().mean())


class TwoOutputs(nn.Module):
    """The swap moves the second output alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.act = nn.Linear(6, 4), nn.Linear(6, 3), nn.ReLU()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.first(x), "features": self.act(self.second(x))}


def test_the_drift_is_that_of_all_outputs_together() -> None:
    torch.manual_seed(0)
    model, data = TwoOutputs().eval(), torch.randn(150, 6)
    with torch.no_grad():
        before = torch.cat(list(model(data).values()), 1).double()
        drift = deadrelu.patch(model, data, sites=["all"]).drift
        after = torch.cat(list(model(data).values()), 1).double()
    assert drift is not None
    assert drift.largest > 0
    assert drift.largest == pytest.approx(float((after - before).abs().max()), rel=1e-9)
    assert drift.relative_l2 == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-9)
    assert drift.same_argmax is None, "two outputs are no classes"


def test_only_sites_with_dead_units_are_swapped_unless_more_is_asked(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = plain(nn.ReLU)
    with torch.no_grad():
        nn.init.orthogonal_(model[0].weight)
        nn.init.orthogonal_(model[2].weight)
        model[2].bias[3] = -1e3
    data = torch.randn(500, 6)
    result, patched = written(tmp_path, model, data)
    assert [type(m).__name__ for m in patched] == ["Linear", "ReLU", "Linear", "LeakyReLU", "Linear"]
    (change,) = result.changes
    assert (change.site, change.dead_before, change.dead_after, change.with_gradient) == ("3", (3,), (), (3,))
    assert result.dead_before == {"1": 0, "3": 1}
    assert result.dead_after == {"1": 0, "3": 0}


@pytest.mark.parametrize("make", [plain, nested])
def test_with_only_dead_units_every_live_unit_is_identical_to_the_bit(
    tmp_path: Path, make: Callable[[Make], nn.Sequential]
) -> None:
    """In convolutional and linear sites; up to the first swapped site, the inputs are the same."""
    torch.manual_seed(0)
    model = sick(make(nn.ReLU)).eval()
    data = torch.randn(200, *SHAPES[make])
    report = deadrelu.scan(model, data)
    first = report.sites[0]
    assert 0 < first.dead < first.site.units
    _, patched = written(tmp_path, model, data, sites=[first.site.id], only_dead_units=True)

    def output_of(net: nn.Module) -> Tensor:
        seen: list[Tensor] = []
        hook = net.get_submodule(first.site.module).register_forward_hook(lambda *a: seen.append(a[2].detach().clone()))
        net(data)
        hook.remove()
        return seen[0]

    before, after = output_of(model), output_of(patched.eval())
    live = [unit for unit in range(first.site.units) if unit not in first.dead_units]
    bits = [x[:, live].contiguous().view(torch.int32) for x in (before, after)]
    assert torch.equal(*bits)
    dead = list(first.dead_units)
    assert (before[:, dead] == 0).all()
    assert (after[:, dead] < 0).all()


def test_reinit_does_not_move_the_output_and_lets_the_dead_units_learn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = sick(plain(nn.ReLU))
    data = torch.randn(300, 6)
    result, patched = written(tmp_path, model, data, only_dead_units=True, reinit=True)
    assert result.drift is not None
    assert result.drift.largest == 0
    assert [c.reinitialised for c in result.changes] == [c.dead_before for c in result.changes]
    assert set(result.parameters_changed) == {"0.weight", "0.bias", "2.weight", "2.bias", "4.weight"}

    target = torch.randint(4, (300,))
    optimiser = torch.optim.SGD(patched.train().parameters(), 0.1)
    for step in range(2):
        optimiser.zero_grad()
        nn.functional.cross_entropy(patched(data), target).backward()
        if step:
            for layer, change in ((0, result.changes[0]), (2, result.changes[1])):
                rows = patched[layer].weight.grad[list(change.dead_before)]
                assert (rows.abs().sum(1) > 0).all(), "a formerly dead unit has no gradient after one step"
        optimiser.step()


def test_restarted_weights_have_the_spread_of_he_initialisation() -> None:
    """Standard deviation gain / sqrt(fan_in), gain sqrt(2 / (1 + slope²)) (He et al. 2015)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 5))
    with torch.no_grad():
        model[0].bias.fill_(-1e3)
    deadrelu.patch(model, torch.randn(320, 400), slope=0.2, reinit=True)
    expected = math.sqrt(2 / (1 + 0.2**2)) / math.sqrt(400)
    assert float(model[0].weight.detach().std()) == pytest.approx(expected, rel=0.01)
    assert float(model[0].weight.detach().mean()) == pytest.approx(0, abs=expected / 50)
    assert (model[2].weight == 0).all()


def test_keep_restarts_dead_units_and_leaves_activation_and_output_as_they_are() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        model[0].bias[3:6] = -1e3
    x = torch.randn(64, 8)
    relu, before = model[1], model(x)
    result = deadrelu.patch(model, x, to="keep", reinit=True)
    assert model[1] is relu
    assert torch.equal(model(x), before)
    assert [change.reinitialised for change in result.changes] == [(3, 4, 5)]
    assert ((model[0](x) > 0).any(0)).all()
    assert (result.edits, result.python) == ((), ())


def test_keep_without_a_restart_is_refused() -> None:
    with pytest.raises(deadrelu.DeadreluError, match="--with keep alone changes nothing"):
        deadrelu.patch(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.randn(4, 2), to="keep")


class Residual(nn.Module):
    """A sum reads the activation beside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.act = nn.ReLU()
        self.out = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.fc(x))
        return self.out(h) + h


def test_reinit_gives_the_reason_where_more_than_a_layer_reads_the_units() -> None:
    torch.manual_seed(0)
    model = Residual()
    with torch.no_grad():
        model.fc.bias[2] = -1e3
    weight = model.fc.weight.detach().clone()
    (change,) = deadrelu.patch(model, torch.randn(320, 6), only_dead_units=True, reinit=True).changes
    assert change.reinitialised == ()
    assert "add" in change.note
    assert torch.equal(model.fc.weight, weight)


def test_reinit_follows_batch_norm_pooling_and_flattening(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(72, 4),
    ).eval()
    with torch.no_grad():
        model[1].bias[[1, 5]] = -1e3
    data = torch.randn(320, 3, 8, 8)
    result, patched = written(tmp_path, model, data, only_dead_units=True, reinit=True)
    assert result.changes[0].reinitialised == (1, 5)
    assert result.drift is not None
    assert result.drift.largest == 0
    assert (patched[6].weight.reshape(4, 8, 9)[:, [1, 5]] == 0).all()
    assert not torch.equal(patched[0].weight[1], model[0].weight[1])
    assert torch.equal(patched[0].weight[0], model[0].weight[0])


def test_relu6_leaks_below_and_keeps_its_cap(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU6(), nn.Linear(5, 2))
    with torch.no_grad():
        model[0].bias[1], model[0].bias[2] = -100, 100
    data = torch.randn(320, 4)
    _, patched = written(tmp_path, model, data, slope=0.1)
    z = model[0](data)
    assert torch.equal(patched[1](z), nn.functional.leaky_relu(z, 0.1).clamp(max=6))
    result = deadrelu.patch(tmp_path / "model.pt", str(tmp_path / "data.pt"), to="elu", output=tmp_path / "no.pt")
    assert "upper limit" in result.refused[0].reason
    assert not (tmp_path / "no.pt").exists()


def test_one_sick_call_of_a_shared_module_is_refused_with_the_way_out() -> None:
    torch.manual_seed(0)
    model = shared(nn.ReLU)
    with torch.no_grad():
        for layer in (model[0], model[2], model[4][0]):
            nn.init.orthogonal_(layer.weight)
            layer.bias.fill_(0.5)
        model[0].bias[3] = -1e3
    data = torch.randn(400, 6)
    result = deadrelu.patch(model, data)
    (refusal,) = result.refused
    assert refusal.site == "1#1"
    assert "called 3 times" in refusal.reason
    assert "--site '1#*'" in refusal.reason
    assert isinstance(model[1], nn.ReLU)
    deadrelu.patch(model, data, sites=["1#*"])
    assert isinstance(model[1], nn.LeakyReLU)
    assert model[1] is model[3] is model[4][1]


def test_the_activation_of_torchs_encoder_layer_can_be_swapped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    with torch.no_grad():
        model.layers[1].linear1.bias[4] = -1e3
    data = torch.randn(320, 5, 8)
    result, patched = written(tmp_path, model, data)
    assert [c.site for c in result.changes] == ["layers.1.linear1:relu"]
    assert 4 in result.changes[0].dead_before
    assert isinstance(patched.layers[1].activation, nn.LeakyReLU)
    by_hand = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
    )
    by_hand.layers[1].activation = nn.LeakyReLU(0.01)
    by_hand.layers[1].activation_relu_or_gelu = 0
    by_hand.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(patched.eval()(data), by_hand.eval()(data))


@pytest.mark.parametrize("is_zip", [True, False])
def test_the_copy_is_a_zip_archive_where_the_original_is(tmp_path: Path, is_zip: bool) -> None:
    torch.manual_seed(0)
    torch.save(sick(plain(nn.ReLU)), tmp_path / "model.pt", _use_new_zipfile_serialization=is_zip)
    torch.save(torch.randn(64, 6), tmp_path / "data.pt")
    trust = Trust(all=not is_zip)  # torch's old format cannot be read without running it
    deadrelu.patch(tmp_path / "model.pt", str(tmp_path / "data.pt"), output=tmp_path / "out.pt", trust=trust)
    assert zipfile.is_zipfile(tmp_path / "out.pt") is is_zip


def test_nothing_to_do_writes_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    torch.save(model, tmp_path / "model.pt")
    result = deadrelu.patch(tmp_path / "model.pt", torch.randn(400, 4).numpy(), output=tmp_path / "out.pt")
    assert result.changes == result.refused == ()
    assert result.output is None
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_preview_changes_nothing() -> None:
    torch.manual_seed(0)
    model = sick(plain(nn.ReLU))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    result = deadrelu.patch(model, torch.randn(320, 6), reinit=True, preview=True)
    assert len(result.changes) == 2
    assert result.drift is None
    assert isinstance(model[1], nn.ReLU)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_an_existing_file_is_not_overwritten_without_force(tmp_path: Path) -> None:
    torch.manual_seed(0)
    (tmp_path / "out.pt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        written(tmp_path, sick(plain(nn.ReLU)), torch.randn(320, 6))
    assert (tmp_path / "out.pt").read_text() == "mine"
    written(tmp_path, sick(plain(nn.ReLU)), torch.randn(320, 6), force=True)


@pytest.mark.usefixtures("fresh_process")
def test_a_file_that_fails_verification_is_not_left_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer spoils one weight behind the program's back; the fresh process sees it."""
    torch.manual_seed(0)
    save = torch.save

    def spoil(module: nn.Sequential, file: object, **options: object) -> None:
        with torch.no_grad():
            module[4].weight[0, 0] += 1e-3
        save(module, file, **options)  # type: ignore[arg-type]

    torch.save(sick(plain(nn.ReLU)), tmp_path / "model.pt")
    torch.save(torch.randn(320, 6), tmp_path / "data.pt")
    (tmp_path / "out.pt").write_text("old")
    monkeypatch.setattr(torch, "save", spoil)
    with pytest.raises(ModelError, match=r"4\.weight"):
        deadrelu.patch(tmp_path / "model.pt", str(tmp_path / "data.pt"), output=tmp_path / "out.pt", force=True)
    assert (tmp_path / "out.pt").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.pt", "model.pt", "out.pt"]


def test_a_live_module_that_fails_verification_comes_back_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = sick(plain(nn.ReLU))
    parameters, relus = list(model.parameters()), [model[1], model[3]]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    from deadrelu.remedy import verify

    def fail(*_: object) -> None:
        raise ModelError("no", hint="no")

    monkeypatch.setattr(verify, "_check_structure", fail)
    with pytest.raises(ModelError):
        deadrelu.patch(model, torch.randn(320, 6), reinit=True)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert [model[1], model[3]] == relus
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slope": 0.0}, "--slope"),
        ({"slope": 1.5}, "--slope"),
        ({"to": "tanh"}, "--with tanh"),
        ({"only_dead_units": True, "to": "elu"}, "--only-dead-units"),
        ({"sites": ["nowhere?"]}, "matches no site"),
    ],
)
def test_options_that_cannot_be_met_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        deadrelu.patch(sick(plain(nn.ReLU)), torch.randn(64, 6), **options)  # type: ignore[arg-type]


def test_the_verification_of_one_module_does_not_expect_what_was_planned_for_another() -> None:
    """Unit 4 leaks in one ReLU and stays dead in a call of another; both become "PReLU(6), 1 of them leak"."""
    model = _Twice()
    result = deadrelu.patch(model, torch.rand(20, 6), only_dead_units=True)
    assert {change.site: change.dead_before for change in result.changes} == {
        "once": (4,),
        "twice#1": (1,),
        "twice#2": (1, 4),
    }
    assert {change.site: change.dead_after for change in result.changes} == {"once": (), "twice#1": (), "twice#2": (4,)}


class _Twice(nn.Module):
    """Three ReLUs over six units that fire, but for those whose bias is low; the last two are one module."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.once, self.twice = nn.ReLU(), nn.ReLU()
        with torch.no_grad():
            for layer, dead in zip(self.layers, ([4], [1], [1, 4]), strict=True):
                layer.weight.copy_(torch.eye(6))
                layer.bias.fill_(1)
                layer.bias[dead] = -100

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.once(self.layers[0](x))
        return self.twice(self.layers[2](self.twice(self.layers[1](x))))
