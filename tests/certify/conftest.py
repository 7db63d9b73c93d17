"""Small networks of many kinds, with units that are often silent, and what a sampler says of their pre-activations."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.report.proof import Proof

ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    lambda: nn.Hardtanh(0.0, 2.0),
    nn.GELU,
    nn.Tanh,
    nn.SiLU,
    lambda: nn.PReLU(init=0.1),
    nn.Hardswish,
    nn.ELU,
)


class Residual(nn.Module):
    """Two layers and a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.act, self.last = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.second(self.act(self.first(x))))


class Mixed(nn.Module):
    """Functional calls, a concatenation, a product of two branches, a layer norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(width, 6), nn.Linear(width, 6), nn.Linear(18, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.a(x)), torch.sigmoid(self.b(x))
        y = F.relu(self.norm(self.out(torch.cat([a, b, a * b], 1))))
        return F.relu(y.view(-1, 2, 4).amax(2) - 1.5)


def random_network(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A network, and the shape of one sample of its input."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    def act() -> nn.Module:
        return ACTIVATIONS[draw(0, len(ACTIVATIONS) - 1)]()

    kind, width = seed % 4, draw(2, 6)
    shape: tuple[int, ...] = (width,)
    layers: list[nn.Module] = []
    if kind == 0:
        for _ in range(draw(1, 4)):
            new = draw(3, 12)
            layers += [nn.Linear(width, new), *([nn.BatchNorm1d(new)] if draw(0, 1) else []), act()]
            width = new
        layers.append(nn.Linear(width, 3))
    elif kind == 1:
        channels, shape = draw(1, 2), (1, 6, 6)
        shape = (channels, 6, 6)
        for _ in range(draw(1, 2)):
            new = draw(2, 4)
            layers += [nn.Conv2d(channels, new, 3, padding=draw(0, 1)), nn.BatchNorm2d(new), act()]
            channels = new
        layers += [nn.MaxPool2d(2) if draw(0, 1) else nn.AvgPool2d(2), nn.Flatten(), nn.LazyLinear(6), nn.ReLU()]
    elif kind == 2:
        layers = [nn.Linear(width, 8), Residual(8), Residual(8), nn.Linear(8, 4), nn.ReLU6(), nn.Linear(4, 2)]
    else:
        layers = [Mixed(width)]
    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        model(torch.randn(2, *shape))
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.weight.mul_(2.0)
                module.bias.sub_(0.8 * torch.rand(module.bias.shape, generator=generator))  # type: ignore[union-attr]
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_(generator=generator)  # type: ignore[union-attr]
                module.running_var.uniform_(0.3, 2, generator=generator)  # type: ignore[union-attr]
                module.weight.normal_(1, 0.5, generator=generator)
                module.bias.normal_(-0.5, 0.5, generator=generator)
    return model, shape


def pre_activations(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The output of a plain forward pass at each site, by the id of the site: seen by deadrelu's own scan elsewhere.

    Here the calls are found without it: by hooks on the modules and a patched `F.relu`.
    """
    seen: dict[str, Tensor] = {}
    handles = []
    for path, module in model.named_modules():
        if isinstance(module, (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish)):
            handles.append(
                module.register_forward_pre_hook(lambda _, a, path=path: seen.__setitem__(path, a[0].detach()))
            )
    calls: list[Tensor] = []
    relu = F.relu
    F.relu = lambda z, *a, **k: (calls.append(z.detach()), relu(z, *a, **k))[1]  # type: ignore[assignment]
    try:
        with torch.no_grad():
            model(x)
    finally:
        F.relu = relu
        for handle in handles:
            handle.remove()
    if not handles:
        seen |= {str(place): z for place, z in enumerate(calls)}
    return seen


def proof_of(model: nn.Module, data: Tensor, **options: object) -> Proof:
    return deadrelu.prove(model, data, batch_size=256, **options)  # type: ignore[arg-type]
