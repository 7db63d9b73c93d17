"""Networks of the shapes that are pruned: each couples its units in another way."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plain(nn.Module):
    """A convolution with a batch norm and functional calls, a flatten, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(3, 20, 3, padding=1, bias=False), nn.BatchNorm2d(20)
        self.c2, self.b2 = nn.Conv2d(20, 24, 3, padding=1), nn.BatchNorm2d(24)
        self.f1, self.f2 = nn.Linear(24 * 4, 40), nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.b1(self.c1(x))), 2)
        x = F.adaptive_avg_pool2d(F.relu(self.b2(self.c2(x)), inplace=True), 2)
        return self.f2(F.relu(self.f1(x.flatten(1))))


class Block(nn.Module):
    """A residual block: units of the shortcut can go where both of its ends are dead."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.c1, self.b1 = nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.c2, self.b2 = nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        y = torch.relu(self.b1(self.c1(x)))
        return self.fc(torch.relu(x + self.b2(self.c2(y))).mean((2, 3)))


class Dense(nn.Module):
    """Layers that read all layers before them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(32, 20, 1)
        self.fc = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.a(x))
        b = F.relu(self.b(a))
        return self.fc(F.relu(self.c(torch.cat([a, b], 1))).mean((2, 3)))


class Mobile(nn.Module):
    """A depthwise convolution between two pointwise ones."""

    def __init__(self, groups: int = 16) -> None:
        super().__init__()
        self.up, self.deep = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=groups)
        self.down, self.fc = nn.Conv2d(16, 24, 1), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.deep(F.relu6(self.up(x))))
        return self.fc(F.relu(self.down(x)).mean((2, 3)))


class Sequence(nn.Module):
    """An encoder layer: the units inside of its feed-forward part can go."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 2, 48, batch_first=True), 2, enable_nested_tensor=False
        )
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.encoder(x).mean(1))


class Fixed(nn.Module):
    """Its code names the size of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)).view(-1, 24))


class Tied(nn.Module):
    """Weights that are used twice, and units that are read by an output."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.same, self.out = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.same(F.relu(self.same(F.relu(self.a(x))))))
        seen = F.relu(self.out(x))
        return seen, x


class Stage(nn.Module):
    """Blocks with one stream of features, and one that makes it smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.blocks = nn.ModuleList(
            nn.Sequential(*conv(24, 24, padding=1), nn.ReLU(), *conv(24, 24, padding=1)) for _ in range(2)
        )
        self.short, self.long = (
            nn.Sequential(*conv(24, 32, 1, stride=2)),
            nn.Sequential(*conv(24, 32, stride=2, padding=1)),
        )
        self.fc = nn.Linear(32, 10)
        self.stream = [self.first, *(block[4] for block in self.blocks)]

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(self.stem(x)))
        for block in self.blocks:
            x = F.relu(x + block(x))
        return self.fc(F.relu(self.short(x) + self.long(x)).mean((2, 3)))


def conv(before: int, after: int, kernel: int = 3, **options: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(before, after, kernel, bias=False, **options), nn.BatchNorm2d(after)  # type: ignore[arg-type]


class Inverted(nn.Module):
    """MobileNetV2: what a dead unit leaves of a depthwise convolution with a norm is a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(*conv(before, hidden, 1), nn.ReLU6(), *conv(hidden, hidden, padding=1, groups=hidden), nn.ReLU6()),
                *conv(hidden, 16, 1),
            )
            for before, hidden in ((3, 32), (16, 48))
        )
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[0](x)
        return self.fc((x + self.blocks[1](x)).mean((2, 3)))


class Squeeze(nn.Module):
    """Squeeze and excitation, and a mask over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.down, self.up = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.mask, self.b, self.fc = nn.Conv2d(32, 1, 1), nn.Conv2d(32, 16, 3, padding=1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        x = x * torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        x = x * torch.sigmoid(self.mask(x))
        return self.fc(F.relu(self.b(x)).mean((2, 3)))


class PreNorm(nn.Module):
    """DenseNet: every layer normalises all features before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in (16, 24, 32))
        self.layers = nn.ModuleList(nn.Conv2d(width, 8, 3, padding=1) for width in (16, 24))
        self.fc = nn.Linear(32, 4)
        self.stream = list(self.norms)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.layers, strict=False):
            x = torch.cat([x, layer(F.relu(norm(x)))], 1)
        return self.fc(F.relu(self.norms[2](x)).mean((2, 3)))


class Unet(nn.Module):
    """A transposed convolution, and features that are read at two depths."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.up, self.c, self.out = nn.ConvTranspose2d(32, 16, 2, stride=2), nn.Conv2d(32, 16, 1), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.a(x))
        return self.out(F.relu(self.c(torch.cat([a, F.relu(self.up(F.relu(self.b(a))))], 1))))


class Scaled(nn.Module):
    """Parameters of one number for each unit, outside of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        self.slopes, self.scale = nn.PReLU(32), nn.Parameter(torch.rand(32) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.slopes(F.relu(self.b(F.relu(self.a(x)) * self.scale))))


class After(nn.Module):
    """A norm behind the activation: of a dead unit it makes a constant."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32)
        self.b, self.c = nn.Conv2d(32, 16, 3, padding=padding), nn.Linear(16, 4)
        self.stream = [self.a]

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(self.norm(F.relu(self.a(x))))).mean((2, 3)))


class Wide(nn.Module):
    """Convolutions of eight groups: a group goes as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.groups = nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 3, padding=1, groups=8)
        self.b, self.fc = nn.Conv2d(32, 16, 1), nn.Linear(16, 3)
        self.stream = [self.a, self.groups]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.b(F.relu(self.groups(F.relu(self.a(x)))))).mean((2, 3)))


class Padded(nn.Module):
    """A shortcut that pads the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return self.fc(F.relu(self.b(x) + F.pad(x, (0, 0, 0, 0, 8, 8))).mean((2, 3)))


class Shuffled(nn.Module):
    """A depthwise convolution behind a shuffle, which depends on the number of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.deep = nn.Conv2d(3, 24, 1), nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.b, self.fc = nn.Conv2d(24, 16, 1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.deep(F.channel_shuffle(F.relu(self.a(x)), 4)))
        return self.fc(F.relu(self.b(x)).mean((2, 3)))


class Branched(nn.Module):
    """Takes another layer for other data."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, 32), nn.Linear(32, 4), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x, high = F.relu(self.a(x)), bool(x.sum() > 1e9)
        return self.b(x) if high else self.c(x)


class Grouped(nn.Module):
    """A group norm, and units that are pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.Conv2d(16, 8, 3, padding=1)
        self.f1, self.f2 = nn.Linear(8 * 64, 20), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.f2(F.relu(self.f1(F.relu(self.b(F.relu(self.norm(self.a(x)))).flatten(1)))))


def constant(act: nn.Module) -> nn.Sequential:
    """A function that makes something other than 0 where it is flat."""
    return nn.Sequential(nn.Linear(16, 32), act, nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(16, 40), nn.ReLU(), nn.Dropout(), nn.Linear(40, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 4)
    )


@dataclass(frozen=True)
class Network:
    """How one is made, the shape of its input, at how many sites units go at least, and why others stay.

    `exact` is the relative difference in float64 that is allowed: of a bias that takes a constant float32 is left.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    least: int
    reasons: tuple[str, ...] = field(default=())
    exact: float = 1e-10


IMAGE, VECTOR = (3, 8, 8), (16,)
SHORTCUT, GROUP = "added to another branch, as in a shortcut, which is not dead", "reads it together with others"
NETWORKS = {
    "mlp": Network(mlp, VECTOR, 2),
    "cnn": Network(Plain, IMAGE, 3),
    "residual": Network(Block, IMAGE, 3, (SHORTCUT,)),
    "stage": Network(Stage, IMAGE, 6, (SHORTCUT,)),
    "dense": Network(Dense, IMAGE, 2),
    "densenet": Network(PreNorm, IMAGE, 3, ("it is read where it is not dead",)),
    "mobile": Network(Mobile, IMAGE, 3, exact=1e-6),
    "mobilenet": Network(Inverted, IMAGE, 4, ("differs between positions",), exact=1e-6),
    "squeeze": Network(Squeeze, IMAGE, 3),
    "unet": Network(Unet, IMAGE, 4),
    "grouped": Network(lambda: Mobile(4), IMAGE, 1, (GROUP,)),
    "resnext": Network(Wide, IMAGE, 3, (GROUP,)),
    "scaled": Network(Scaled, VECTOR, 2),
    "norm after": Network(lambda: After(0), IMAGE, 2, exact=1e-6),
    "norm after, padded": Network(lambda: After(1), IMAGE, 1, ("its edges, which are padded",)),
    "hardtanh": Network(lambda: constant(nn.Hardtanh()), VECTOR, 2, exact=1e-6),
    "threshold": Network(lambda: constant(nn.Threshold(0.1, 0.3)), VECTOR, 2, exact=1e-6),
    "padded": Network(Padded, IMAGE, 2, (SHORTCUT, "by constant_pad_nd")),
    "shuffled": Network(
        Shuffled, IMAGE, 1, ("depends on the size of its layer", "the model's own code fixes the size")
    ),
    "branched": Network(Branched, VECTOR, 0, ("decides by a value of its data",)),
    "pixels": Network(Grouped, IMAGE, 2, ("by native_group_norm", "units that fire are made with it")),
    "transformer": Network(Sequence, (5, 16), 2),
    "size in the code": Network(Fixed, (8,), 0, ("the model's own code fixes the size",)),
    "tied": Network(Tied, VECTOR, 0, ("used more than once", "part of the output")),
}


def planted(make: Callable[[], nn.Module], seed: int, share: float = 0.4) -> nn.Module:
    """A model in which a share of the units of each layer but the last never fires, in any place."""
    torch.manual_seed(seed)
    model = make().eval()
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        for layer in layers[:-1]:
            norm = _norm_after(model, layer)
            made = layer if norm is None else norm
            if made.bias is not None:
                made.bias[torch.rand(len(made.bias)) < share] = -40.0 if made is norm else -60.0
        for layer in getattr(model, "stream", ()):  # dead at all ends of what couples them
            layer.bias[4:8] = -90.0
    return model


def _norm_after(model: nn.Module, layer: nn.Module) -> nn.Module | None:
    modules = [m for m in model.modules() if not list(m.children())]
    after = modules[modules.index(layer) + 1] if layer in modules[:-1] else None
    return (
        after
        if isinstance(after, nn.modules.batchnorm._BatchNorm) and after.num_features == len(layer.weight)
        else None
    )


class Anything(nn.Module):
    """A graph of layers, norms, shortcuts, gates, groups and pools by chance, with units that never fire."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = random.Random(seed)
        torch.manual_seed(seed)
        self.steps = nn.ModuleList()
        self.plan: list[tuple[str, tuple[int, ...]]] = []
        widths = [3]
        for _ in range(self.chance.randint(4, 10)):
            source = self.chance.choice([len(widths) - 1] * 3 + list(range(len(widths))))
            widths.append(self.grow(widths, source))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(widths[-1] * 36, 9), nn.ReLU(), nn.Linear(9, 4))
        self.eval()
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    for each in (module.running_mean, module.weight, module.bias):
                        each.normal_()  # type: ignore[union-attr]
                    module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                    module.bias[torch.rand(len(module.bias)) < 0.35] = -40.0
                elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.bias is not None:
                    module.bias[torch.rand(len(module.bias)) < 0.3] = -60.0

    def grow(self, widths: list[int], source: int) -> int:
        """Add a step that reads a value; return the number of channels that it makes."""
        width, chance = widths[source], self.chance
        act = chance.choice((nn.ReLU, nn.ReLU6, nn.Hardswish, nn.GELU, partial(nn.Hardtanh, -0.5, 2.0)))
        kind = chance.choice(("conv", "conv", "up", "deep", "groups", "add", "mul", "cat", "pool", "norm", "squeeze"))
        if kind == "groups" and width % 4:
            kind = "conv"
        after, others = width, (source,)
        step: nn.Module
        match kind:
            case "conv":
                after = chance.choice((4, 8, 12))
                norm = chance.choice(([nn.BatchNorm2d(after)], []))
                step = nn.Sequential(nn.Conv2d(width, after, 3, padding=1, bias=not norm), *norm, act())
            case "up":
                after = 8
                step = nn.Sequential(nn.ConvTranspose2d(width, after, 3, padding=1), act())
            case "deep":
                after = width * chance.choice((1, 2))
                step = nn.Sequential(nn.Conv2d(width, after, 3, padding=1, groups=width), act())
            case "groups":
                after = 8
                step = nn.Sequential(nn.Conv2d(width, after, 1, groups=4), act())
            case "add" | "mul":
                others = (source, chance.choice([at for at, each in enumerate(widths) if each == width]))
                step = chance.choice((nn.ReLU, nn.Identity))()
            case "cat":
                others = (source, chance.randrange(len(widths)))
                after, step = width + widths[others[1]], nn.Identity()
            case "pool":
                step = chance.choice((nn.MaxPool2d, nn.AvgPool2d))(3, 1, 1)
            case "norm":
                step = nn.BatchNorm2d(width)
            case _:
                layers = nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, 4, 1), nn.ReLU(), nn.Conv2d(4, width, 1)
                step = nn.Sequential(*layers, nn.Sigmoid())
        self.steps.append(step)
        self.plan.append((kind, others))
        return after

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for (kind, places), step in zip(self.plan, self.steps, strict=True):
            first, last = values[places[0]], values[places[-1]]
            match kind:
                case "add":
                    values.append(step(first + last))
                case "mul":
                    values.append(step(first * last))
                case "cat":
                    values.append(torch.cat([first, last], 1))
                case "squeeze":
                    values.append(first * step(first))
                case _:
                    values.append(step(first))
        out: Tensor = self.head(values[-1])
        return out
