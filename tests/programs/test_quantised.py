"""Quantised (int8) models: a ReLU that is fused into its layer is measured by what it leaves."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deadrelu
from deadrelu.errors import ArchitectureError, TrustError
from deadrelu.load.trust import Trust
from deadrelu.programs.special_operators import _RECTIFIED, gives_rectified, hides_relu

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch.ao.nn.intrinsic.quantized.dynamic as dynamic
    import torch.ao.nn.quantized as quantised
    from torch.ao import quantization

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

ENGINES = [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Any:
    """Each engine that this torch was built with, in turn."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = request.param
    yield request.param
    torch.backends.quantized.engine = before


def float_net() -> nn.Sequential:
    """Two layers with a ReLU each; units 1 and 4 of the first and unit 2 of the second are dead by their bias."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        net[0].bias[[1, 4]] = -20
        net[3].bias[2] = -20
    return net.eval()


def quantised_net(engine: str) -> nn.Module:
    """The same, quantised statically; both ReLUs are fused into their layers."""
    fused = quantization.fuse_modules(float_net(), [["0", "1"], ["3", "4"]])
    net = nn.Sequential(quantization.QuantStub(), *fused, quantization.DeQuantStub()).eval()
    net.qconfig = quantization.get_default_qconfig(engine)
    quantization.prepare(net, inplace=True)
    net(images())
    quantization.convert(net, inplace=True)
    return net


def images() -> Tensor:
    """Twenty inputs."""
    return torch.randn(20, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def test_a_fused_relu_fires_where_the_unfused_quantised_layer_is_above_zero(engine: str) -> None:
    """The oracle runs the same packed weights through the operators without a ReLU, and compares raw integers."""
    net = quantised_net(engine)
    report = deadrelu.scan(net, images(), batch_size=7)
    assert [s.site.id for s in report.sites] == ["1:relu#1", "4:relu#1"]
    assert [s.site.op for s in report.sites] == ["relu", "relu"]
    assert report.skipped == ()
    conv, linear = net[1], net[4]
    x = net[0](images())
    z = torch.ops.quantized.conv2d(x, conv._packed_params, conv.scale, conv.zero_point)
    hits = (z.int_repr().numpy().astype(int) > conv.zero_point).sum((0, 2, 3))
    first, second = report.sites
    assert [round(r * first.positions) for r in first.firing_rate] == hits.tolist()
    assert first.positions == 20 * 16
    z = torch.ops.quantized.linear(
        net[3](conv(x)), linear._packed_params._packed_params, linear.scale, linear.zero_point
    )
    hits = (z.int_repr().numpy().astype(int) > linear.zero_point).sum(0)
    assert [round(r * second.positions) for r in second.firing_rate] == hits.tolist()
    assert {1, 4} <= set(first.dead_units)
    assert 2 in second.dead_units
    assert sum(hits > 0) > 0


def test_how_near_a_fused_unit_came_to_waking_is_not_known(engine: str) -> None:
    net = quantised_net(engine)
    for stats in deadrelu.scan(net, images()).sites:
        for unit, highest in enumerate(stats.max_preactivation):
            assert (highest is None) == (unit in stats.dead_units)
            assert highest is None or highest > 0


def test_units_that_are_planted_dead_are_dead_in_float_and_in_int8(engine: str) -> None:
    before = deadrelu.scan(float_net(), images())
    after = deadrelu.scan(quantised_net(engine), images())
    assert [s.dead_units for s in before.sites] == [(1, 4), (2,)]
    for plain, small in zip(before.sites, after.sites, strict=True):
        assert set(plain.dead_units) <= set(small.dead_units)


def test_a_quantised_relu_that_is_not_fused_is_measured_before_it() -> None:
    fused = quantised_net("x86" if "x86" in ENGINES else ENGINES[0])
    conv = fused[1]
    plain = quantised.Conv2d(3, 6, 3)
    plain.set_weight_bias(conv.weight(), conv.bias())
    plain.scale, plain.zero_point = conv.scale, 60  # room for what is negative
    model = nn.Sequential(fused[0], plain, nn.ReLU())
    (stats,) = deadrelu.scan(model, images()).sites
    z = plain(fused[0](images())).int_repr().numpy().astype(int) - 60
    assert stats.site.id == "2"
    assert [round(r * stats.positions) for r in stats.firing_rate] == (z > 0).sum((0, 2, 3)).tolist()
    expected = z.max((0, 2, 3)) * plain.scale
    assert np.allclose([stats.max_preactivation[unit] for unit in range(6)], expected, rtol=1e-5)


def test_dynamic_quantisation_keeps_its_relus_and_its_fused_one_gives_floats() -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(3)
    plain = quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), {nn.Linear})
    (stats,) = deadrelu.scan(plain, x).sites
    with torch.no_grad():
        hits = (plain[0](x).numpy() > 0).sum(0)
    assert stats.site.id == "1"
    assert [round(rate * 30) for rate in stats.firing_rate] == hits.tolist()
    fused = dynamic.LinearReLU(4, 6)
    fused.set_weight_bias(plain[0].weight(), plain[0].bias())
    report = deadrelu.scan(nn.Sequential(fused), x, batch_size=8)
    assert [s.site.id for s in report.sites] == ["0:relu#1"]
    assert deadrelu.scan(nn.Sequential(fused), x).sites[0].firing_rate == stats.firing_rate


class Functional(nn.Module):
    """A residual addition with its ReLU, a ReLU6 and a leaky ReLU, all on quantised tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.adding = quantised.QFunctional()
        self.adding.scale, self.adding.zero_point = 0.05, 3
        self.capped = quantised.ReLU6()
        self.leaky = quantised.LeakyReLU(0.05, 3)

    def forward(self, x: Tensor) -> Tensor:
        q = torch.quantize_per_tensor(x, 0.1, 100, torch.quint8)
        return self.leaky(self.capped(self.adding.add_relu(q, q))).dequantize()


def test_fused_additions_and_quantised_functions_are_told_apart() -> None:
    x = torch.randn(40, 8, generator=torch.Generator().manual_seed(4)) * 4
    report = deadrelu.scan(Functional(), x)
    assert [(s.site.id, s.site.op) for s in report.sites] == [
        (":relu#1", "relu"),
        ("capped:relu6#1", "relu6"),
        ("leaky:leaky_relu#1", "leaky_relu"),
    ]
    assert report.skipped == (), "each is read by its own values"
    added, capped, _ = report.sites
    q = (x.numpy() / np.float32(0.1)).round().clip(-100, 155) * 0.1 * 2
    assert [round(r * 40) for r in added.firing_rate] == (np.round(q / 0.05) > 0).sum(0).tolist()
    out = np.round(q / 0.05).clip(0, 252) * 0.05
    assert [round(r * 40) for r in capped.firing_rate] == ((out > 0) & (out < 6 - 1e-6)).sum(0).tolist()


@pytest.mark.parametrize(
    ("name", "measured", "skipped"),
    [
        ("quantized::conv2d_relu", True, False),
        ("quantized::linear_leaky_relu", False, False),
        ("quantized::relu6", False, False),
        ("quantized::quantized_rnn_relu_cell_dynamic", False, True),
        ("onednn::qadd_relu", False, True),
        ("aten::relu", False, False),
    ],
)
def test_what_is_measured_and_what_is_skipped_with_a_reason(name: str, measured: bool, skipped: bool) -> None:
    assert gives_rectified(*name.split("::")) is measured
    assert hides_relu(*name.split("::")) is skipped


def test_a_relu_that_nothing_is_known_of_is_skipped_and_never_green() -> None:
    cell = quantization.quantize_dynamic(nn.Sequential(nn.RNNCell(4, 3, nonlinearity="relu")), {nn.RNNCell})
    report = deadrelu.scan(cell, torch.randn(5, 4))
    assert report.sites == ()
    (skipped,) = report.skipped
    assert skipped.id == "0"
    assert "fused into quantized::" in skipped.reason
    assert "DR008" in {finding.rule for finding in report.findings}


def linear_net() -> nn.Module:
    """A linear layer with its ReLU, quantised statically."""
    net = nn.Sequential(quantization.QuantStub(), nn.Linear(4, 6), nn.ReLU(), quantization.DeQuantStub()).eval()
    net = quantization.fuse_modules(net, [["1", "2"]])
    net.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    quantization.prepare(net, inplace=True)
    net(torch.randn(20, 4))
    return quantization.convert(net)


def test_a_saved_quantised_module_asks_for_trust_and_then_counts_the_same(tmp_path: Path) -> None:
    net, x = linear_net(), torch.randn(20, 4)
    torch.save(net, tmp_path / "int8.pt")
    with pytest.raises(TrustError, match=r"torch\.ao\.nn\.intrinsic\.quantized") as raised:
        deadrelu.scan(tmp_path / "int8.pt", x)
    assert "--trust" in raised.value.hint
    saved = deadrelu.scan(tmp_path / "int8.pt", x, trust=Trust(all=True))
    assert [s.site.id for s in saved.sites] == ["1:relu#1"]
    assert saved.sites == deadrelu.scan(net, x).sites


def test_a_quantised_convolution_that_torch_itself_cannot_restore_is_refused_in_words(tmp_path: Path) -> None:
    torch.save(quantised_net(torch.backends.quantized.engine), tmp_path / "int8.pt")
    with pytest.raises(ArchitectureError, match="ConvReLU2d that torch itself cannot restore") as raised:
        deadrelu.scan(tmp_path / "int8.pt", images(), trust=Trust(all=True))
    assert "file.py:function" in raised.value.hint


def test_every_operator_in_the_table_is_known_to_this_torch() -> None:
    """The names are torch's own affair (seen on 2.13.0): one that is gone shows here, and leaves the table."""
    missing = [name for name in sorted(_RECTIFIED) if not hasattr(torch.ops.quantized, name)]
    assert missing == [], f"torch {torch.__version__} has no such operators: strike them from programs/fused.py"
