"""The rules on gradients hold for networks that are known to train, or not to, beyond one draw of their weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deadrelu
from benchmarks.networks import resnet18, vgg11

RULES = ("DR012", "DR013")


def mlp(act: type[nn.Module], depth: int = 30, *, init: str = "", scale: float = 1.0, norm: bool = False) -> nn.Module:
    """Equal layers of 64 units, at torch's initialisation or another one."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(64, 64)
        if init == "he":
            nn.init.kaiming_normal_(linear.weight)
        if init == "xavier":
            nn.init.xavier_normal_(linear.weight)
        with torch.no_grad():
            linear.weight.mul_(scale)
            if init:
                linear.bias.zero_()
        layers += [linear, nn.BatchNorm1d(64), act()] if norm else [linear, act()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def settled(model: nn.Module, x: Tensor) -> nn.Module:
    """The model, whose batch norms know the data."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.momentum = None
    with torch.no_grad():
        model.train()(x)
    return model.eval()


NETWORKS = {
    "relu, He": (lambda: mlp(nn.ReLU, init="he"), None),
    "relu, He, 100 layers": (lambda: mlp(nn.ReLU, 100, init="he"), None),
    "relu, batch norm, 16 layers": (lambda: mlp(nn.ReLU, 16, norm=True), None),
    "relu, torch's weights, 3 layers": (lambda: mlp(nn.ReLU, 3), None),
    "relu, torch's weights": (lambda: mlp(nn.ReLU), "DR012"),
    "relu, Xavier": (lambda: mlp(nn.ReLU, init="xavier"), "DR012"),
    "sigmoid, torch's weights": (lambda: mlp(nn.Sigmoid), "DR012"),
    "tanh, Xavier": (lambda: mlp(nn.Tanh, init="xavier"), None),
    "relu, He × 3": (lambda: mlp(nn.ReLU, init="he", scale=3), "DR013"),
    "relu, torch's weights × 3": (lambda: mlp(nn.ReLU, scale=3), "DR013"),
    "relu, batch norm without a shortcut": (lambda: mlp(nn.ReLU, norm=True), "DR013"),
}


def rules_of(model: nn.Module, x: Tensor) -> list[str]:
    labels = torch.arange(len(x)) % 10
    report = deadrelu.scan(settled(model, x), (x, labels), loss="cross_entropy")
    return [finding.rule for finding in report.findings if finding.rule in RULES]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_deep_networks_raise_the_rule_that_fits_them(name: str, seed: int) -> None:
    make, rule = NETWORKS[name]
    torch.manual_seed(seed)
    assert rules_of(make(), torch.randn(128, 64)) == ([] if rule is None else [rule])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("make", [resnet18, vgg11])
def test_networks_that_train_raise_neither(make, seed: int) -> None:
    torch.manual_seed(seed)
    assert rules_of(make(), torch.randn(8, 3, 64, 64)) == []


def test_the_rule_on_a_vanishing_gradient_names_both_ends() -> None:
    torch.manual_seed(0)
    x, labels = torch.randn(64, 64), torch.arange(64) % 10
    report = deadrelu.scan(mlp(nn.ReLU, init="xavier").eval(), (x, labels), loss="cross_entropy")
    (finding,) = (finding for finding in report.findings if finding.rule == "DR012")
    assert finding.site == "1"
    assert "times that at 59: what is before this site hardly learns." in finding.message
    assert report.verdict == "pass"


def test_a_wholly_dead_site_is_named_as_the_end_of_the_gradient() -> None:
    torch.manual_seed(0)
    model = mlp(nn.ReLU, 4)
    with torch.no_grad():
        model[4].bias.fill_(-1000)
    x, labels = torch.randn(64, 64), torch.arange(64) % 10
    report = deadrelu.scan(model.eval(), (x, labels), loss="cross_entropy")
    (finding,) = (finding for finding in report.findings if finding.rule == "DR012")
    assert finding.message.startswith("No gradient of the loss gets here, while 7 has one: it ends at 5, which is")


def test_a_gradient_that_is_not_finite_fails_the_gate() -> None:
    torch.manual_seed(0)
    model = mlp(nn.ReLU, 2, init="he")
    x, labels = torch.randn(64, 64), torch.arange(64) % 10

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        """Its value is 0 and its gradient 0 / 0: a square root at 0."""
        return (nn.functional.cross_entropy(output, labels) * 0).sqrt()

    report = deadrelu.scan(model, (x, labels), loss=loss)
    (finding,) = (finding for finding in report.findings if finding.rule == "DR013")
    assert finding.severity == "error"
    assert finding.site is None
    assert report.verdict == "fail"
    assert report.gradients is not None
    assert report.gradients.norm.max is None
    assert report.gradients.clip is None
    assert deadrelu.Report.from_json(report.to_json()) == report
