"""Without data, noise is made that the model accepts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deadrelu.data.spec import DataSpec
from deadrelu.data.synthetic import synthesise
from deadrelu.errors import DataError
from deadrelu.programs.program import Batch


class Through(nn.Module):
    """A few layers and a forward given as a function of them."""

    def __init__(self, forward, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


MODELS = {
    "linear": (lambda: nn.Linear(5, 2), (5,)),
    "flattened": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (12,)),
    "conv1d": (lambda: nn.Conv1d(3, 2, 5), (3, 64)),
    "conv2d": (lambda: nn.Conv2d(3, 2, 5), (3, 64, 64)),
    "conv3d": (lambda: nn.Conv3d(2, 2, 3), (2, 16, 16, 16)),
    "conv2d of one size": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 3)),
        (1, 28, 28),
    ),
    "large images only": (
        lambda: nn.Sequential(nn.Conv2d(3, 2, 16, 16), nn.Flatten(), nn.Linear(2 * 14 * 14, 3)),
        (3, 224, 224),
    ),
    "generator": (lambda: nn.Sequential(nn.ConvTranspose2d(6, 3, 4), nn.ReLU()), (6, 1, 1)),
    "batch norm": (lambda: nn.Sequential(nn.BatchNorm1d(7), nn.Linear(7, 2)), (7,)),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm((3, 4)), nn.Flatten(), nn.Linear(12, 2)), (3, 4)),
    "group norm": (lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 3)), (4, 64, 64)),
    "unflatten": (lambda: nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 2, 3)), (64,)),
    "sequence": (
        lambda: Through(lambda m, x: m.head(x[:, -1] + x.new_zeros(x.shape[0], 5)), head=nn.Linear(5, 2)),
        (16, 5),
    ),
    "transformer": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1),
        (16, 8),
    ),
    "rnn": (lambda: Through(lambda m, x: m.rnn(x)[0], rnn=nn.GRU(3, 4, batch_first=True)), (16, 3)),
    "reshaping": (
        lambda: Through(lambda m, x: m.conv(x.reshape(-1, 1, 8, 8)).flatten(1), conv=nn.Conv2d(1, 2, 3)),
        (1, 8, 8),
    ),
    "head first": (
        lambda: Through(lambda m, x: m.head(m.body(x).mean((2, 3))), head=nn.Linear(9, 2), body=nn.Conv2d(3, 9, 3)),
        (3, 64, 64),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_found_by_trying(program_of, name: str) -> None:
    make, shape = MODELS[name]
    program = program_of(make())
    batches = list(synthesise(program, DataSpec(samples=5, batch_size=2)))
    assert [batch.samples for batch in batches] == [2, 2, 1]
    assert [tuple(batch.args[0].shape) for batch in batches] == [(2, *shape), (2, *shape), (1, *shape)]
    with program.watched(lambda *_: None) as run:
        run(batches[0])


def test_time_first_layers_get_the_samples_on_the_second_axis(program_of) -> None:
    program = program_of(Through(lambda m, x: m.rnn(x)[0], rnn=nn.LSTM(3, 4)))
    (batch,) = synthesise(program, DataSpec(samples=5))
    assert tuple(batch.args[0].shape) == (16, 5, 3)
    assert batch.samples == 5


def test_an_embedding_gets_indices_within_its_vocabulary(program_of) -> None:
    program = program_of(nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 2)))
    batches = synthesise(program, DataSpec(samples=300, batch_size=300))
    (batch,) = batches
    assert batch.args[0].dtype == torch.int64
    assert set(batch.args[0].flatten().tolist()) == set(range(11))
    assert batches.info.source == "synthetic indices below 11 (16,)"


def test_noise_is_standard_normal_and_the_same_for_the_same_seed(linear) -> None:
    def values(seed: int) -> torch.Tensor:
        return torch.cat([batch.args[0] for batch in synthesise(linear, DataSpec(samples=4000, seed=seed))])

    assert torch.equal(values(0), values(0))
    assert not torch.equal(values(0), values(1))
    assert abs(values(0).mean()) < 0.03
    assert abs(values(0).std() - 1) < 0.03


def test_noise_leaves_torchs_own_generator_alone(linear) -> None:
    before = torch.get_rng_state()
    list(synthesise(linear, DataSpec()))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_info_says_that_it_is_synthetic(program_of) -> None:
    info = synthesise(program_of(nn.Conv2d(3, 2, 3).double()), DataSpec(input_shapes=[(3, 32, 32)], seed=4)).info
    assert (info.kind, info.seed, info.source) == ("synthetic", 4, "synthetic normal (3, 32, 32)")


def test_given_shapes_are_used_by_position_and_by_name(pair) -> None:
    (by_position,) = synthesise(pair, DataSpec(input_shapes=[(3,), (1,)], samples=2))
    (by_name,) = synthesise(pair, DataSpec(input_shapes={"right": (3,), "left": (3,)}, samples=2))
    assert [tuple(arg.shape) for arg in by_position.args] == [(2, 3), (2, 1)]
    assert {name: tuple(arg.shape) for name, arg in by_name.kwargs.items()} == {"left": (2, 3), "right": (2, 3)}
    assert not torch.equal(by_name.kwargs["left"], by_name.kwargs["right"])


def test_a_given_shape_of_an_embedding_is_filled_with_indices(program_of) -> None:
    (batch,) = synthesise(program_of(nn.Embedding(5, 2)), DataSpec(input_shapes=[(7,)], samples=9))
    assert batch.args[0].shape == (9, 7)
    assert batch.args[0].max() < 5


def test_the_models_own_example_comes_first_then_noise_like_it(program_of) -> None:
    example = Batch(samples=3, args=(torch.full((3, 4), 7.0), torch.tensor([5, 9, 5])))
    program = program_of(nn.Linear(4, 2), example)
    first, second = synthesise(program, DataSpec(samples=6))
    assert first is example
    assert second.args[0].shape == (3, 4)
    assert set(second.args[1].tolist()) <= {5, 9}
    assert len(list(synthesise(program, DataSpec(samples=1)))) == 1
    given = next(iter(synthesise(program, DataSpec(input_shapes=[(4,)], samples=1))))
    assert given.args[0].shape == (1, 4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (nn.ReLU, "no layer of the model tells which input it takes"),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Linear(7, 2)),
            r"no input shape that fits its first layer, 0: Conv2d, runs: ",
        ),
    ],
)
def test_where_nothing_runs_the_layer_and_the_option_are_named(program_of, make, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        synthesise(program_of(make()), DataSpec())
    assert "--input-shape" in caught.value.hint


def test_a_given_shape_that_does_not_run_is_refused(linear) -> None:
    with pytest.raises(DataError, match=r"does not run on the given input shape \(5,\): .*shapes"):
        synthesise(linear, DataSpec(input_shapes=[(5,)]))
    with pytest.raises(DataError, match="below 1"):
        synthesise(linear, DataSpec(input_shapes=[(0, 4)]))


def test_counts_below_one_are_refused(linear) -> None:
    with pytest.raises(DataError, match="at least 1"):
        synthesise(linear, DataSpec(samples=0))


@pytest.mark.parametrize("said", [10**30, "4", -5, float("nan"), [1], None, True, 2**40, 3])
def test_a_linear_layer_is_fed_what_its_weight_takes_whatever_a_file_says_of_it(program_of, said: object) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    net[0].in_features = said
    assert synthesise(program_of(net), DataSpec()).info.source == "synthetic normal (4,)"


@pytest.mark.parametrize("said", [10**30, "4", -5, float("nan"), [1], None, 2**40])
def test_sizes_that_no_input_can_have_are_never_tried(program_of, said: object) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    net[0].in_channels = said
    with pytest.raises(DataError, match="no layer of the model tells"):
        synthesise(program_of(net), DataSpec())
    embedding = nn.Sequential(nn.Embedding(4, 8), nn.ReLU())
    embedding[0].num_embeddings = said
    with pytest.raises(DataError):
        synthesise(program_of(embedding), DataSpec())
