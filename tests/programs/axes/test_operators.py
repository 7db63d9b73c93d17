"""Which axes hold the features after an operator: held against numbered features that went through it themselves."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deadrelu
from deadrelu.programs.axes.operators import rule_of
from deadrelu.programs.axes.provenance import Provenance, following
from deadrelu.programs.axes.unit_axes import RANKED, UnitAxes
from deadrelu.programs.program import Features

N, C, T, W = 5, 6, 4, 8
"""Samples, features, and two sizes of places; no two are equal."""

Op = Callable[[Tensor], Tensor]


def _filled(x: Tensor) -> Tensor:
    """A copy that is made empty, and filled in two halves of its features."""
    out = torch.zeros(N, T, C, W)
    out.transpose(1, 2)[:, : C // 2].copy_(x[:, : C // 2])
    out[:, :, C // 2 :] = x[:, C // 2 :].transpose(1, 2)
    return out


MOVES: dict[str, Op] = {
    "permute": lambda x: x.permute(2, 0, 3, 1),
    "transpose": lambda x: x.transpose(1, 3),
    "movedim": lambda x: x.movedim(1, -1),
    "mT": lambda x: x.mT,
    "in-place transpose": lambda x: x.clone().transpose_(1, 2),
    "places merged": lambda x: x.flatten(2),
    "places cut": lambda x: x.unflatten(3, (2, 4)),
    "samples and places merged": lambda x: x.permute(0, 2, 3, 1).reshape(-1, C),
    "samples and places cut again": lambda x: x.permute(0, 2, 3, 1).reshape(-1, C).view(N, T, W, C),
    "heads": lambda x: x.view(N, 2, 3, T, W),
    "heads merged again": lambda x: x.view(N, 2, 3, T, W).flatten(1, 2),
    "features and places merged": lambda x: x.flatten(1),
    "features merged with samples": lambda x: x.flatten(0, 1),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "in-place unsqueeze": lambda x: x.clone().unsqueeze_(1),
    "squeeze of another axis": lambda x: x[:, :, :1].squeeze(2),
    "expand": lambda x: x[:, :, :1].expand(-1, -1, 3, -1),
    "expand in front": lambda x: x.expand(2, *x.shape),
    "select a place": lambda x: x[:, :, 1],
    "unbind places": lambda x: x.unbind(3)[2],
    "slice of features": lambda x: x[:, 1:4],
    "slice of places": lambda x: x[..., ::2],
    "narrow": lambda x: x.narrow(1, 2, 3),
    "chunk": lambda x: x.chunk(2, 1)[1],
    "split": lambda x: x.split([2, 4], 1)[1],
    "tensor_split": lambda x: x.tensor_split(3, 1)[0],
    "flip": lambda x: x.flip(1),
    "roll": lambda x: x.roll(2, 1),
    "rot90": lambda x: x.rot90(1, (2, 3)),
    "repeat features": lambda x: x.repeat(1, 2, 1, 1),
    "repeat places": lambda x: x.repeat(1, 1, 3, 1),
    "repeat in front": lambda x: x.repeat(2, 1, 1, 1, 1),
    "tile": lambda x: x.tile(1, 1, 2, 1),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "repeat_interleave of places": lambda x: x.repeat_interleave(2, 3),
    "index of features": lambda x: x[:, [0, 2, 2, 5]],
    "index of places": lambda x: x[:, :, torch.tensor([3, 0])],
    "diagonal of places": lambda x: x.diagonal(dim1=2, dim2=3),
    "diagonal of features and places": lambda x: x.diagonal(1, 3, 1),
    "index_select": lambda x: x.index_select(1, torch.tensor([4, 1])),
    "index of samples": lambda x: x[torch.tensor([1, 1, 0])],
    "mask of samples": lambda x: x[torch.arange(N) > 1],
    "mask of samples and places": lambda x: x.movedim(1, -1)[torch.ones(N, T, W) > 0],
    "paired indices of places": lambda x: x[:, :, [0, 1, 2], [3, 4, 5]],
    "last place of each row": lambda x: x.permute(0, 2, 3, 1)[torch.arange(N), 2, 1],
    "gather over places": lambda x: x.gather(2, torch.zeros(N, C, 2, W, dtype=torch.long)),
    "take_along_dim of places": lambda x: x.take_along_dim(torch.zeros(1, 1, 2, 1, dtype=torch.long), 2),
    "sort of places": lambda x: x.sort(2).values,
    "topk of places": lambda x: x.topk(3, 3).values,
    "cat of features": lambda x: torch.cat([x, x + C], 1),
    "cat of places": lambda x: torch.cat([x, x], 2),
    "cat of samples": lambda x: torch.cat([x, x]),
    "stack": lambda x: torch.stack([x, x], 1),
    "stack at the end": lambda x: torch.stack([x, x], -1),
    "hstack": lambda x: torch.hstack([x, x + C]),
    "unfold": lambda x: x.unfold(3, 3, 1),
    "replicated border": lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
    "circular border": lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
    "upsampled": lambda x: F.interpolate(x, scale_factor=2.0),
    "max pool": lambda x: F.max_pool2d(x, 2),
    "average pool": lambda x: F.avg_pool2d(x, 2),
    "adaptive pool": lambda x: F.adaptive_avg_pool2d(x, (1, 3)),
    "pool over time": lambda x: F.max_pool1d(x.flatten(2), 3),
    "mean of places": lambda x: x.mean((2, 3)),
    "mean of places, kept": lambda x: x.mean((2, 3), keepdim=True),
    "maximum of places": lambda x: x.max(3).values,
    "amax of places": lambda x: x.amax(2),
    "median of places": lambda x: x.median(3).values,
    "maximum of samples": lambda x: x.amax(0),
    "copy": lambda x: torch.zeros_like(x).copy_(x),
    "clone, contiguous": lambda x: x.transpose(1, 2).contiguous().clone(),
    "masked_fill of nothing": lambda x: x.masked_fill(x < -1, 9.0),
    "where": lambda x: torch.where(x > -1, x, 9.0),
    "dropout in eval mode": lambda x: F.dropout(x, training=False),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "grid_sample": lambda x: F.grid_sample(x, torch.zeros(N, 3, 3, 2), align_corners=True, padding_mode="border"),
    "scatter back": lambda x: torch.zeros_like(x).scatter(2, torch.arange(T).view(1, 1, T, 1).expand_as(x), x),
    "index_add of rows": lambda x: torch.zeros(N, C).index_add(0, torch.arange(N), x[:, :, 0, 0]),
    "scatter_add of rows": lambda x: torch.zeros(N, C).scatter_add(
        0, torch.arange(N).unsqueeze(1).expand(-1, C), x[..., 0, 0]
    ),
    "index_put of rows": lambda x: torch.zeros(N, C).index_put((torch.arange(N),), x[:, :, 0, 0]),
    "written slice by slice": lambda x: _filled(x),
    "packed and padded": lambda x: nn.utils.rnn.pad_packed_sequence(
        nn.utils.rnn.pack_padded_sequence(x[..., 0].transpose(1, 2), torch.full((N,), T), batch_first=True),
        batch_first=True,
    )[0],
}
"""What only moves features, or mixes places of one and the same."""

ONE_UNIT: dict[str, Op] = {
    "one feature picked": lambda x: x[:, 3],
    "the last one picked": lambda x: x.movedim(1, -1)[..., -1],
    "squeeze of the only one": lambda x: x[:, 2:3].squeeze(1),
    "in-place squeeze of the only one": lambda x: x[:, 2:3].clone().squeeze_(1),
    "sum": lambda x: x.sum(1),
    "mean": lambda x: x.mean(1),
    "norm": lambda x: x.norm(dim=1),
    "amax": lambda x: x.amax(1),
    "max": lambda x: x.max(1).values,
    "logsumexp": lambda x: x.logsumexp(1),
    "std": lambda x: x.std(1),
    "kthvalue": lambda x: x.kthvalue(2, 1).values,
    "argument in range": lambda x: x.unbind(1)[0] * 2 - 1,
    "one of each row": lambda x: x.flatten(1)[torch.arange(N), torch.arange(N)],
    "similarity of positions": lambda x: x.flatten(2).mT @ x.flatten(2),
}
"""What takes features out of their axis, or sums them up."""

RANKS: dict[str, Op] = {
    "topk": lambda x: x.topk(3, 1).values,
    "sort": lambda x: x.sort(1).values,
    "msort": lambda x: x.movedim(1, 0).msort(),
    "gather": lambda x: x.gather(1, x.argsort(1)),
    "take_along_dim": lambda x: x.take_along_dim(x.argsort(1), 1),
    "index by what is largest": lambda x: x[:, x.mean((0, 2, 3)).topk(2).indices],
    "sorted, then computed with": lambda x: (x.sort(1).values * 2 - 1).flatten(2).mean(2),
    "part of what was sorted": lambda x: x.topk(4, 1).values[:, :2],
}
"""What makes an axis of ranks, where an index is not always the same feature."""


def read(op: Op) -> tuple[UnitAxes, Tensor]:
    """What is known after `op` on maps `(N, C, T, W)`, C of them features; and numbered features that took the way."""
    layer = nn.Conv2d(3, C, 1)
    x = torch.randn(N, 3, T, W)
    provenance = Provenance(x, N)
    with torch.no_grad(), following(provenance, lambda: "layer"):
        reading = provenance.read(op(layer(x)))
    numbered = torch.arange(1.0, C + 1).view(1, C, 1, 1).expand(N, C, T, W).clone()
    return reading, op(numbered)


def by_feature(x: Tensor, features: Features) -> Tensor:
    """`(units, everything else)`."""
    x = features.apart(x)
    axes = [axis % x.ndim for axis in features.axes]
    return x.movedim(axes, list(range(len(axes)))).flatten(0, len(axes) - 1).flatten(1)


@pytest.mark.parametrize("op", MOVES.values(), ids=MOVES)
def test_the_index_along_the_axes_tells_which_feature_an_entry_belongs_to(op: Op) -> None:
    reading, numbered = read(op)
    features = reading.features()
    assert features.by == "producer"
    assert reading.obstacle is None
    units = by_feature(numbered, features)
    assert bool((units == units[:, :1]).all())
    assert set(units[:, 0].tolist()) == set(numbered.flatten().tolist())
    assert reading.after == "layer"


@pytest.mark.parametrize("op", ONE_UNIT.values(), ids=ONE_UNIT)
def test_what_is_left_of_a_picked_or_summed_axis_is_one_unit(op: Op) -> None:
    reading, _ = read(op)
    features = reading.features()
    assert (features.axes, features.by) == ((), "producer")


@pytest.mark.parametrize("op", RANKS.values(), ids=RANKS)
def test_an_axis_of_ranks_is_no_unit_axis(op: Op) -> None:
    reading, _ = read(op)
    assert reading.obstacle == RANKED


def made(x: Tensor, network: Op) -> Features:
    """The features of what a network makes of a batch of `len(x)` samples."""
    provenance = Provenance(x, len(x))
    with torch.no_grad(), following(provenance, lambda: "layer"):
        return provenance.read(network(x)).features()


def test_recurrent_layers_put_their_features_last() -> None:
    x = torch.randn(N, T, C)
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        layer = kind(C, 7, batch_first=True, bidirectional=True)
        assert made(x, lambda x, layer=layer: layer(x)[0]).axes == (-1,)
        time_first = kind(C, 7)
        assert made(x, lambda x, layer=time_first: layer(x)[0].transpose(1, 2)).axes == (1,)
    for cell in (nn.LSTMCell(C, 7), nn.GRUCell(C, 7), nn.RNNCell(C, 7)):
        state = made(x[:, 0], lambda x, cell=cell: (out[0] if isinstance(out := cell(x), tuple) else out).unsqueeze(-1))
        assert (state.axes, state.by) == ((1,), "producer")


def test_a_matrix_on_the_left_makes_features_of_its_rows() -> None:
    weight = nn.Parameter(torch.randn(9, C))
    features = made(torch.randn(N, T, C), lambda x: weight @ x.mT)
    assert (features.axes, features.by) == ((1,), "producer")


def test_an_adjacency_on_the_left_leaves_the_features_where_they_are() -> None:
    layer, adjacency = nn.Linear(3, C), torch.rand(T, T)
    features = made(torch.randn(N, T, 3), lambda x: adjacency @ layer(x))
    assert (features.axes, features.by) == ((-1,), "producer")


def test_a_layer_with_weights_for_each_member_of_an_ensemble_has_the_units_of_all() -> None:
    weight = nn.Parameter(torch.randn(T, C, 7))
    features = made(torch.randn(N, T, C), lambda x: torch.bmm(x.transpose(0, 1), weight))
    assert features.axes == (-3, -1) or features.axes == (0, 2)


def test_an_outer_sum_has_a_unit_for_each_pair() -> None:
    a, b = nn.Linear(3, C), nn.Linear(3, W)
    assert made(torch.randn(N, 3), lambda x: a(x)[:, :, None] + b(x)[:, None, :]).axes == (-2, -1)


def test_attention_scores_have_a_unit_a_head() -> None:
    q, k = nn.Linear(3, 8), nn.Linear(3, 8)

    def scores(x: Tensor) -> Tensor:
        return (q(x).view(N, T, 2, 4).transpose(1, 2) @ k(x).view(N, T, 2, 4).transpose(1, 2).mT).flatten(0, 1)

    features = made(torch.randn(N, T, 3), scores)
    assert features.cut is not None  # samples and heads share an axis
    z = torch.arange(2.0).repeat(N).view(-1, 1, 1).expand(N * 2, T, T)
    assert by_feature(z, features).unique(dim=1).tolist() == [[0.0], [1.0]]


def test_a_number_times_a_vector_of_weights_makes_features() -> None:
    weight = nn.Parameter(torch.randn(7))
    features = made(torch.randn(N), lambda x: x.unsqueeze(1) * weight)
    assert (features.axes, features.by) == ((-1,), "producer")


CENTRES = nn.Parameter(torch.randn(7, C))
GRID = torch.linspace(-1, 1, 7)


@pytest.mark.parametrize(
    "op",
    [
        lambda x: (x[:, None] - CENTRES).pow(2).sum(-1),
        lambda x: x[..., None] * CENTRES[:, 0],
        lambda x: x[..., None] - GRID,
    ],
    ids=["distances to centres", "each input times a vector", "each input on a grid"],
)
def test_an_axis_that_weights_or_constants_bring_beside_an_open_one_is_a_guess_or_told_by_a_consumer(op: Op) -> None:
    x = torch.randn(N, C)
    layer = nn.Linear(7, 2)
    for consumed, by in ((False, "guess"), (True, "producer")):
        provenance = Provenance(x, N)
        with torch.no_grad(), following(provenance, lambda: None):
            reading = provenance.read(z := op(x))
            layer(z.relu()) if consumed else None
        assert (reading.features(is_final=True).axes, reading.features(is_final=True).by) == ((-1,), by)


@pytest.mark.parametrize(
    "look_up",
    [lambda table, x: table[x[..., 0]], lambda table, x: table.index_select(0, x.flatten()).view(N, T, -1, C)[:, :, 0]],
    ids=["index", "index_select"],
)
def test_rows_of_a_table_of_weights_are_features(look_up: Callable[[Tensor, Tensor], Tensor]) -> None:
    table = nn.Parameter(torch.randn(20, C))
    x = torch.randint(0, 20, (N, T, 2))
    features = made(x, lambda x: look_up(table, x) + 1)
    assert (features.axes, features.by) == ((-1,), "producer")
    layer = nn.Linear(C, W)
    assert made(x, lambda x: layer(look_up(table, x).flip(-1))).axes == (-1,)


def test_entries_of_a_grid_of_weights_are_features() -> None:
    grid = nn.Parameter(torch.randn(20, 20, C))
    features = made(torch.randint(0, 20, (N, 2)), lambda x: grid[x[:, 0], x[:, 1]])
    assert (features.axes, features.by) == ((-1,), "producer")


def test_a_layer_after_a_table_of_constants_has_its_own_units_only() -> None:
    table, layer = torch.randn(20, C), nn.Linear(C, W)
    x = torch.randint(0, 20, (N, T))
    assert made(x, lambda x: layer(table[x])).axes == (-1,)
    provenance = Provenance(x, N)
    with torch.no_grad(), following(provenance, lambda: None):
        reading = provenance.read(table[x])
    assert reading.features(is_final=True).by == "guess"


def test_samples_that_the_data_picks_are_not_the_samples_of_the_batch() -> None:
    layer = nn.Linear(3, C)
    x = torch.rand(N, 3)
    assert made(x, lambda x: layer(x)).has_samples
    assert not made(x, lambda x: layer(x)[(x > -1).all(-1)]).has_samples
    assert not made(x, lambda x: layer(x).index_select(0, x[:, 0].argsort())).has_samples


class Strange(torch.autograd.Function):
    """Stands for code of which no rule is known: its operator is not in the table."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:  # noqa: ARG004  torch's own signature
        return torch.ops.aten.diag_embed(x).diagonal(dim1=-2, dim2=-1).clone()


def test_an_operator_that_is_not_in_the_table_ends_what_is_known() -> None:
    layer = nn.Linear(3, C)
    x = torch.randn(N, T, 3)
    provenance = Provenance(x, N)
    with torch.no_grad(), following(provenance, lambda: None):
        reading = provenance.read(Strange.apply(layer(x)))
    assert reading.features().by == "open"
    assert reading.features(is_final=True).by == "guess"


def test_an_operator_that_is_not_in_the_table_keeps_a_first_axis_of_samples_that_is_as_long() -> None:
    layer = nn.Linear(3, C)
    assert made(torch.randn(N, T, 3), lambda x: Strange.apply(layer(x))).has_samples
    assert not made(torch.randn(N, T, 3), lambda x: Strange.apply(layer(x).transpose(0, 1))).has_samples
    assert not made(torch.randn(N, T, 3), lambda x: Strange.apply(layer(x)[1:])).has_samples


def test_an_input_of_another_length_holds_no_samples() -> None:
    layer, x, table = nn.Linear(3, C), torch.randn(N, 3), torch.randn(N + 1, 3)
    provenance = Provenance((x, table), N)
    with torch.no_grad(), following(provenance, lambda: None):
        of_x, of_table = provenance.read(layer(x)), provenance.read(layer(table))
    assert (of_x.features().has_samples, of_table.features().has_samples) == (True, False)


def test_a_tensor_that_no_operator_made_is_open_until_a_layer_reads_it() -> None:
    layer, z = nn.Linear(C, 2), torch.randn(N, C)
    provenance = Provenance(torch.randn(N, 3), N)
    with torch.no_grad(), following(provenance, lambda: None):
        reading = provenance.read(z)
        assert reading.features().by == "open"
        layer(z)
    assert reading.features(is_final=True).by == "producer"


def test_weights_that_are_computed_from_weights_make_features_too() -> None:
    weight = nn.Parameter(torch.randn(C, 3))
    features = made(torch.randn(N, T, 3), lambda x: F.linear(x, weight / weight.norm()))
    assert (features.axes, features.by) == ((-1,), "producer")


@pytest.mark.parametrize(
    ("consumer", "axes"),
    [
        (nn.Linear(C, 2), (-1,)),
        (nn.Conv1d(T, 2, 1), (1,)),
        (nn.BatchNorm1d(T).eval(), (1,)),
        (nn.LayerNorm(C), (-1,)),
        (nn.LSTM(C, 2, batch_first=True), (-1,)),
    ],
    ids=["linear", "convolution", "batch norm", "layer norm", "lstm"],
)
def test_a_layer_that_reads_the_output_tells_where_the_features_were(consumer: nn.Module, axes: tuple[int]) -> None:
    x = torch.randn(N, T, C)
    provenance = Provenance(x, N)
    with torch.no_grad(), following(provenance, lambda: None):
        reading = provenance.read(z := Strange.apply(x))
        consumer(torch.relu(z) * 2)
    assert (reading.features(is_final=True).axes, reading.features(is_final=True).by) == (axes, "producer")


def test_features_on_different_axes_that_are_added_are_not_known() -> None:
    layer = nn.Linear(T, T)
    x = torch.randn(N, T, T)
    provenance = Provenance(x, N)
    with torch.no_grad(), following(provenance, lambda: None):
        y = layer(x)
        reading = provenance.read(y + y.transpose(1, 2))
    assert reading.features(is_final=True) == Features((-1,), "guess", has_samples=True)


FAMILIES = re.compile(
    r"index|gather|scatter|take|select|slice|put|masked|cat|stack|lstm|gru|rnn|sort|topk|split|chunk|unbind|view|reshape"
    r"|permute|transpose|squeeze|expand|repeat|tile|flip|roll|pad|fold|shuffle|narrow|pool|upsample|cum|softmax|norm|conv"
)
"""Operators by their names: views, reductions, indexing, joining, recurrent ones."""

NOT_OF_A_MODEL = re.compile(
    r"backward|_out$|foreach|sparse|nested|jagged|_test_|fused_(adam|sgd|adagrad)|cslt|dyn_quant|cs[rc]|bs[rc]|coo|mps"
    r"|_validate|cudnn_init|histogram|philox|convert_weight|fbgemm|resize|flatten_weight|_indices|_values|values_copy"
    r"|indices_copy|window|renorm|gamma|polygamma|slice_inverse|make_dual|reshape_from_tensor|_pad_enum|normal_functional"
)
"""Gradients, sparse and nested tensors, optimisers, packing of weights, and what gives out no activation."""

ENDS = {
    "_chunk_cat",
    "_compute_linear_combination",
    "_masked_scale",
    "_pad_circular",
    "_unsafe_masked_index",
    "_unsafe_masked_index_put_accumulate",
    "_weight_norm",
    "_weight_norm_interface",
    "as_strided_copy",
    "column_stack",
    "cumulative_trapezoid",
    "dstack",
    "empty_permuted",
    "frobenius_norm",
    "hstack",
    "linalg_matrix_norm",
    "linalg_norm",
    "masked_select",
    "norm_except_dim",
    "nuclear_norm",
    "pad_sequence",
    "put",
    "row_stack",
    "special_log_softmax",
    "special_softmax",
    "sspaddmm",
    "take",
    "view_as_complex",
    "view_as_complex_copy",
    "view_as_real",
    "view_as_real_copy",
    "vstack",
}
"""Those of which no rule says anything: seldom met, seen only through what they are made of, or of weights."""


def test_every_view_reduction_index_join_and_recurrent_operator_has_a_rule_or_is_known_to_end_it() -> None:
    unknown = set()
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = name.partition("::")
        base, _, overload = rest.partition(".")
        operator = getattr(getattr(torch.ops.aten, base, None), overload or "default", None)
        if namespace != "aten" or operator is None or NOT_OF_A_MODEL.search(base):
            continue
        is_one = {torch.Tag.reduction, torch.Tag.view_copy} & {*operator.tags} or FAMILIES.search(base)
        gives_tensors = any("Tensor" in str(result.type) for result in operator._schema.returns)
        if is_one and gives_tensors and rule_of(operator)[0] is None:
            unknown.add(base.removesuffix("_"))
    assert unknown == ENDS


@pytest.mark.parametrize("samples", [1, 2])
def test_an_instance_norm_keeps_the_channels_whatever_the_batch(samples: int) -> None:
    """It reshapes to `(1, rows * channels, length)`, scales each index there, and reshapes back."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.act = nn.Conv1d(3, C, 3), nn.InstanceNorm1d(C, affine=True), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.act(self.norm(torch.stack([x, -x], 1).flatten(0, 1)))

    (stats,) = deadrelu.scan(Net(), torch.randn(4, 3, W), batch_size=samples).sites
    assert (stats.site.units, stats.site.feature_axis) == (C, 1)


@pytest.mark.parametrize("one", [lambda x: x.unflatten(1, (-1, C)).amax(2), lambda x: x.amax(1, keepdim=True)])
def test_the_patches_of_a_single_unit_have_a_unit_for_each_place_in_the_patch(one: Op) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, C, 3), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(F.unfold(one(self.conv(x)), 2))

    (stats,) = deadrelu.scan(Net(), torch.randn(N, 3, T, W), batch_size=N).sites
    assert (stats.site.units, stats.site.feature_axis) == (4, 1)
