"""What each arm makes of a model, by the model's own construction: outputs, weights and dead units before and after."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from deadrelu.errors import UsageError
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.training.trial.alter import alter
from deadrelu.training.trial.grammar import parse_arms
from tests.training.conftest import digits, sick_model

X = digits(slice(300))[0]
BATCHES = [Batch(100, (part,)) for part in X.split(100)]


def altered(model: nn.Module, arm: str, seed: int = 0) -> nn.Module:
    """The model as an arm has it, which is the model itself."""
    program = EagerProgram(model)
    alter(program, parse_arms([arm])[-1], seed, BATCHES)
    return program.module.eval()


def dead(model: nn.Sequential) -> int:
    """Dead units of the first layer, by a plain comparison."""
    return int((~(model[0](X) > 0).any(0)).sum())


def test_reinit_wakes_the_planted_units_and_moves_no_output(model: nn.Sequential) -> None:
    before = model(X)
    assert dead(model) == 3
    altered(model, "reinit")
    assert dead(model) == 0
    assert torch.equal(model(X), before)


def test_reinit_draws_by_the_seed() -> None:
    one, same, other = (altered(sick_model(), "reinit", seed)[0].weight for seed in (1, 1, 2))  # type: ignore[index]
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_reinit_leaves_a_model_without_dead_units_as_it_is() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    before = copy.deepcopy(model.state_dict())
    altered(model, "reinit")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("arm", "kind"),
    [
        ("leaky_relu:0.2", nn.LeakyReLU),
        ("prelu", nn.PReLU),
        ("elu", nn.ELU),
        ("gelu", nn.GELU),
        ("silu", nn.SiLU),
        ("sigmoid", nn.Sigmoid),
        ("tanh", nn.Tanh),
    ],
)
def test_the_activation_takes_the_place_of_every_relu(arm: str, kind: type[nn.Module], model: nn.Sequential) -> None:
    weights = copy.deepcopy(model[0].weight)
    new = altered(model, arm)[1]  # type: ignore[index]
    assert type(new) is kind
    assert torch.equal(model[0].weight, weights)
    if isinstance(new, nn.LeakyReLU):
        assert new.negative_slope == 0.2


@pytest.mark.parametrize(("arm", "spread"), [("init:he", math.sqrt(2 / 400)), ("init:xavier", math.sqrt(2 / 700))])
def test_init_draws_weights_of_the_spread_that_the_papers_give(arm: str, spread: float) -> None:
    model = nn.Sequential(nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 4))
    program = EagerProgram(model)
    alter(program, parse_arms([arm])[-1], 0, [Batch(8, (torch.randn(8, 400),))])
    assert float(model[0].weight.std()) == pytest.approx(spread, rel=0.01)
    assert not model[0].bias.any()


def test_bias_is_added_where_an_activation_follows(model: nn.Sequential) -> None:
    first, last = copy.deepcopy(model[0].bias), copy.deepcopy(model[2].bias)
    altered(model, "bias:0.25")
    assert torch.allclose(model[0].bias, first + 0.25)
    assert torch.equal(model[2].bias, last)


def test_norm_comes_before_the_activation_and_dropout_after_it(model: nn.Sequential) -> None:
    altered(model, "norm+dropout:0.3+gelu")
    kinds = [type(module) for module in model[1].modules() if not isinstance(module, nn.Sequential)]
    assert kinds == [nn.BatchNorm1d, nn.GELU, nn.Dropout]


def test_norm_of_a_last_axis_is_a_layer_norm_and_a_normed_site_stays() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.norm, self.last = nn.Linear(4, 6), nn.ReLU(), nn.LayerNorm(6), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.norm(self.act(self.fc(x))))

    model = Tokens()
    alter(EagerProgram(model), parse_arms(["norm"])[-1], 0, [Batch(3, (torch.randn(3, 5, 4),))])
    assert isinstance(model.act[0], nn.LayerNorm)  # type: ignore[index]
    assert type(model.last) is nn.ReLU


def test_each_draw_is_of_its_own_and_leaves_the_random_numbers_of_the_process(model: nn.Sequential) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    altered(model, "reinit+init:he+dropout:0.1")
    assert torch.equal(torch.rand(3), expected)


class Functional(nn.Module):
    """Calls its ReLU as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.fc(x))


@pytest.mark.parametrize(
    ("model", "arm", "says"),
    [
        (Functional(), "gelu", "the call is in the code"),
        (Functional(), "sigmoid", "none of its activations can be changed"),
        (Functional(), "dropout:0.1", "none of its activations can be changed"),
        (
            nn.Sequential(nn.Linear(64, 4, bias=False), nn.ReLU()),
            "bias:0.1",
            "no layer before an activation has a bias",
        ),
        (nn.Sequential(nn.Linear(64, 4)), "gelu", "made no activation call"),
        (nn.Sequential(nn.Flatten()), "init:he", "no linear or convolutional layer"),
    ],
)
def test_what_cannot_be_made_of_a_model_is_said_in_one_line(model: nn.Module, arm: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        altered(model, arm)
    assert caught.value.message.startswith(f"the arm {arm} cannot be made: ")
    assert says in caught.value.message
    assert caught.value.hint
