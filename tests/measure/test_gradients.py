"""Gradients equal those of autograd by hand, unit by unit, in every format; and the model comes back untouched."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deadrelu.errors import DataError, DeadreluError, ModelError
from deadrelu.measure import gradient_sums, gradients
from deadrelu.measure.gradients import base_of
from deadrelu.measure.losses import read_loss
from deadrelu.measure.measurement import Measurement, merge_measurements
from deadrelu.measure.plan import Plan
from deadrelu.measure.reporting import site_stats
from deadrelu.measure.scan import Scan, measure
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.export.program import ExportedProgram
from deadrelu.programs.program import Batch, Program
from deadrelu.programs.script.program import TorchScriptProgram
from deadrelu.programs.shard import Shard
from deadrelu.report import SiteStats

Kept = list[tuple[Tensor, Tensor]]
"""The pre-activation and the output of each call of one forward pass, in order."""


class Noted(nn.Module):
    """Calls its activations through `relu`, which keeps what goes in and out if it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Kept | None = None

    def relu(self, z: Tensor, call: Callable[[Tensor], Tensor]) -> Tensor:
        if self.kept is not None:
            z = z.clone()
            z.retain_grad()
            h = call(z.clone()).clone()
            h.retain_grad()
            self.kept.append((z, h))
            return h
        return call(z)


class Convolutional(Noted):
    """A shared in-place module called twice, a residual addition, a functional call, a wholly dead branch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.again = nn.Conv2d(6, 6, 3, padding=1)
        self.dead = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6 * 36, 4)
        with torch.no_grad():
            self.dead.bias.fill_(-100)
            self.again.bias[2] = -100  # the residual alone keeps it alive

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x)), self.act)
        x = self.relu(self.again(x) + x, self.act)
        y = self.relu(self.dead(x), F.relu)
        return self.head((x + y).flatten(1))


class Feature(Noted):
    """Clamps, a LeakyReLU's cousin with two edges, and a unit that the head does not listen to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 9), nn.Linear(9, 7), nn.Linear(7, 4)
        self.six = nn.ReLU6()
        with torch.no_grad():
            self.head.weight[:, 3] = 0
            self.first.weight.mul_(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x), self.six)
        x = self.relu(self.second(x), lambda z: z.clamp(min=0))
        return self.head(x)


class Sequence_(Noted):  # noqa: N801  typing's has the name
    """Features on the last of three axes, one layer called twice, functional in-place calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x), F.relu_)
        x = self.relu(self.shared(x), torch.relu)
        x = self.relu(self.shared(x), torch.relu)
        return self.head(x.mean(1))


MODELS: dict[str, tuple[type[Noted], tuple[int, ...]]] = {
    "convolutional": (Convolutional, (3, 8, 8)),
    "feature": (Feature, (5,)),
    "sequence": (Sequence_, (6, 5)),
}
LOSSES = ("cross_entropy", "mse", "l1", "bce_with_logits", "nll")
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}


def batches_for(shape: Sequence[int], loss: str, dtype: torch.dtype, sizes: Sequence[int] = (8, 8, 5)) -> list[Batch]:
    rng = torch.Generator().manual_seed(1)
    made = []
    for size in sizes:
        labels = torch.randint(0, 4, (size,), generator=rng)
        if loss in ("mse", "l1"):
            labels = torch.randn(size, 4, generator=rng, dtype=dtype)
        if loss == "bce_with_logits":
            labels = torch.randint(0, 2, (size, 4), generator=rng)
        made.append(Batch(size, (torch.randn(size, *shape, generator=rng).to(dtype),), labels=labels))
    return made


def by_hand(model: Noted, batches: Sequence[Batch], loss: str) -> tuple[list[tuple[np.ndarray, ...]], list[float]]:
    """For each call its Σg² and Σ|g_h| by unit, whether all g are 0, and the positions; and the norm of each batch."""
    functions = {
        "cross_entropy": F.cross_entropy,
        "mse": F.mse_loss,
        "l1": F.l1_loss,
        "bce_with_logits": lambda z, y: F.binary_cross_entropy_with_logits(z, y.to(z)),
        "nll": F.nll_loss,
    }
    sums: list[list[tuple[np.ndarray, ...]]] = []
    norms = []
    for batch in batches:
        model.kept = []
        model.zero_grad()
        functions[loss](model(*batch.args), batch.labels).backward()
        norms.append(math.sqrt(sum(p.grad.double().square().sum() for p in model.parameters() if p.grad is not None)))
        found = []
        for z, h in model.kept:
            axis = 1 if z.ndim == 4 else z.ndim - 1
            g, gh = (
                np.moveaxis(t.grad.double().numpy(), axis, 0).reshape(z.shape[axis], -1)
                if t.grad is not None
                else np.zeros((z.shape[axis], z.numel() // z.shape[axis]))
                for t in (z, h)
            )
            found.append(((g**2).sum(1), np.abs(gh).sum(1), (g == 0).all(1), np.array(g.shape[1])))
        sums.append(found)
    model.kept = None
    model.zero_grad()
    calls = range(len(sums[0]))
    combined = []
    for call in calls:
        squares, sizes, zero, positions = zip(*(batch[call] for batch in sums), strict=True)
        combined.append((sum(squares), sum(sizes), np.all(zero, axis=0), sum(positions)))
    return combined, norms


def stats_of(program: Program, batches: Sequence[Batch], loss: str) -> tuple[Measurement, list[SiteStats]]:
    measured = measure(program, batches, Plan(), loss=read_loss(loss))
    return measured, site_stats(measured, Plan())


def check(program: Program, model: Noted, batches: Sequence[Batch], loss: str, dtype: torch.dtype) -> None:
    """Every figure of every unit is that of autograd by hand."""
    expected, norms = by_hand(model, batches, loss)
    measured, found = stats_of(program, batches, loss)
    assert len(found) == len(expected)
    tolerance = TOLERANCE[dtype]
    for stats, (squares, sizes, is_zero, positions) in zip(found, expected, strict=True):
        assert stats.positions == positions
        np.testing.assert_allclose(stats.gradient_rms, np.sqrt(squares / positions), rtol=tolerance)
        assert stats.zero_gradient_units == tuple(np.flatnonzero(is_zero))
        if sizes.sum():
            np.testing.assert_allclose(stats.gradient_score, sizes / sizes.mean(), rtol=tolerance)
    assert measured.loss is not None
    np.testing.assert_allclose([batch.norm for batch in measured.loss.batches], norms, rtol=tolerance)


def model_of(name: str, dtype: torch.dtype) -> Noted:
    torch.manual_seed(0)
    return MODELS[name][0]().to(dtype).eval()


class LogSoftmaxed(nn.Module):
    """Log-probabilities of a model, for the likelihood."""

    def __init__(self, model: Noted) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.model(x), 1)

    @property
    def kept(self) -> Kept | None:
        return self.model.kept

    @kept.setter
    def kept(self, value: Kept | None) -> None:
        self.model.kept = value


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("loss", LOSSES)
def test_each_unit_has_the_gradient_of_autograd_by_hand(name: str, loss: str, dtype: torch.dtype) -> None:
    model = model_of(name, dtype)
    net: Noted = LogSoftmaxed(model) if loss == "nll" else model  # type: ignore[assignment]  # it stands in for it
    check(EagerProgram(net), net, batches_for(MODELS[name][1], loss, dtype), loss, dtype)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", ["traced", "exported", "exported with one batch size"])
def test_graphs_have_the_same_gradients(name: str, form: str) -> None:
    model = model_of(name, torch.float64)
    whole = form == "exported with one batch size"
    batches = batches_for(MODELS[name][1], "cross_entropy", torch.float64, sizes=(8, 8) if whole else (8, 8, 5))
    if form == "traced":
        program: Program = TorchScriptProgram(torch.jit.trace(model, batches[0].args))
    else:
        dynamic = None if whole else ({0: torch.export.Dim("n", min=2, max=64)},)
        program = ExportedProgram(torch.export.export(model, batches[0].args, dynamic_shapes=dynamic))
    check(program, model, batches, "cross_entropy", torch.float64)


class Scripted(nn.Module):
    """Scripts as it is, in place and functional."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Linear(216, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        x = F.relu(0.5 * x - 0.1)
        return self.head(x.flatten(1))


def test_a_scripted_module_has_the_gradients_of_the_module_after_many_runs() -> None:
    """TorchScript compiles its own backward pass after two runs; what it did there would be missing."""
    torch.manual_seed(0)
    model = Scripted().double().eval()
    batches = batches_for((3, 8, 8), "cross_entropy", torch.float64, sizes=(4,) * 6)
    _, eager = stats_of(EagerProgram(model), batches, "cross_entropy")
    _, scripted = stats_of(TorchScriptProgram(torch.jit.script(model)), batches, "cross_entropy")
    for a, b in zip(eager, scripted, strict=True):
        np.testing.assert_allclose(a.gradient_rms, b.gradient_rms, rtol=1e-6)
        np.testing.assert_allclose(a.gradient_score, b.gradient_score, rtol=1e-6)


def test_a_padded_batch_of_an_exported_program_counts_its_own_rows_alone() -> None:
    model = model_of("feature", torch.float64)
    exported = ExportedProgram(torch.export.export(model, (torch.randn(8, 5).double(),)))
    batches = batches_for((5,), "cross_entropy", torch.float64, sizes=(8, 3))
    check(exported, model, batches, "cross_entropy", torch.float64)


def test_a_unit_behind_a_wholly_dead_site_has_no_gradient() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        model[2].bias.fill_(-100)
    batch = Batch(4, (torch.randn(4, 4),), labels=torch.tensor([0, 1, 2, 0]))
    _, (first, second) = stats_of(EagerProgram(model), [batch], "cross_entropy")
    assert first.dead < 5
    assert first.zero_gradient_units == tuple(range(5))
    assert second.zero_gradient_units == tuple(range(6))
    assert first.gradient_score == (None,) * 5
    assert sum(second.gradient_score) == pytest.approx(6)


def small(**options) -> tuple[nn.Sequential, list[Batch]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), **options)
    x = torch.randn(16, 4)
    return model, [Batch(8, (x[:8],), labels=torch.arange(8) % 3), Batch(8, (x[8:],), labels=torch.arange(8) % 3)]


def test_the_model_comes_back_untouched() -> None:
    model, batches = small()
    model.train()
    model[2].eval()
    model[0].weight.requires_grad_(False)
    model[4].bias.grad = torch.full((3,), 7.0)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    fired = []
    model[2].weight.register_hook(fired.append)
    model[2].weight.register_post_accumulate_grad_hook(fired.append)
    stats_of(EagerProgram(model), batches, "cross_entropy")
    assert torch.equal(torch.get_rng_state(), rng)
    assert [m.training for m in model] == [True, True, False, True, True]
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True, True]
    assert model[4].bias.grad.tolist() == [7.0] * 3
    assert all(p.grad is None for p in model.parameters() if p is not model[4].bias)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model)
    assert torch.is_grad_enabled()
    assert not any(isinstance(value, nn.Parameter) for value in fired)  # nothing was accumulated


@pytest.mark.parametrize("fault", ["forward", "loss", "backward"])
def test_the_model_comes_back_untouched_from_an_error(fault: str) -> None:
    class Breaks(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, x):
            return x * 1

        @staticmethod
        def backward(_ctx, _g):
            raise RuntimeError("no way back\nand more")

    model, batches = small()
    model[0].weight.requires_grad_(False)
    labels = torch.full((8,), 9 if fault == "loss" else 0)
    if fault == "forward":
        model[2].forward = lambda x: x @ torch.zeros(99)
    if fault == "backward":
        forward = model[4].forward
        model[4].forward = lambda x: Breaks.apply(forward(x))
    with pytest.raises(DeadreluError) as caught:
        stats_of(EagerProgram(model), [Batch(8, batches[0].args, labels=labels)], "cross_entropy")
    assert "\n" not in caught.value.message
    assert not model[0].weight.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model)


def test_frozen_parameters_count_as_trained() -> None:
    model, batches = small()
    expected, wanted = stats_of(EagerProgram(model), batches, "cross_entropy")
    for parameter in model[:4].parameters():
        parameter.requires_grad_(False)
    measured, found = stats_of(EagerProgram(model), batches, "cross_entropy")
    assert [stats.gradient_rms for stats in found] == [stats.gradient_rms for stats in wanted]
    assert measured.loss == expected.loss


class Detaches(nn.Module):
    """Its first layer hears nothing of the loss, and its second runs without a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x)).detach()
        with torch.no_grad():
            x = F.relu(self.second(x))
        return self.head(F.relu(self.third(x)))


def test_what_is_detached_has_no_gradient_and_what_has_no_graph_is_left_out() -> None:
    torch.manual_seed(0)
    _, batches = small()
    _, (first, second, third) = stats_of(EagerProgram(Detaches()), batches, "cross_entropy")
    assert first.gradient_rms == (0.0,) * 6
    assert first.zero_gradient_units == tuple(range(6))
    assert second.gradient_rms == ()
    assert second.zero_gradient_units == ()
    assert sum(third.gradient_rms) > 0


def test_a_forward_without_a_graph_is_one_clear_line() -> None:
    class Silent(nn.Sequential):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    model, batches = small()
    with pytest.raises(ModelError, match="the loss cross_entropy has no gradient") as caught:
        stats_of(EagerProgram(Silent(*model)), batches, "cross_entropy")
    assert "torch.no_grad" in caught.value.hint


@pytest.mark.parametrize("small_up_to", [0, 1 << 17])
def test_gradients_that_have_nearly_vanished_or_overflow_are_still_exact(
    small_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their squares are beyond float32: 1e-30 and 1e+25. Small tensors are summed in another way than large ones."""
    monkeypatch.setattr(gradient_sums, "_SMALL", small_up_to)
    for scale in (1e-30, 1e25):
        model, batches = small()
        with torch.no_grad():
            model[4].weight.mul_(scale)
        labels = torch.zeros(8, 3)
        wanted = []
        for batch in batches:
            z = model[:3](batch.args[0]).detach().double().requires_grad_()
            out = F.linear(F.relu(z), model[4].weight.double(), model[4].bias.double())
            (g,) = torch.autograd.grad(F.l1_loss(out, labels.double()), z)
            wanted.append(g.square().sum(0))
        given = [Batch(8, batch.args, labels=labels) for batch in batches]
        _, (_, second) = stats_of(EagerProgram(model), given, "l1")
        expected = torch.stack(wanted).sum(0).div(16).sqrt()
        np.testing.assert_allclose(second.gradient_rms, expected.numpy(), rtol=1e-4)
        assert len(second.zero_gradient_units) == int((expected == 0).sum()) < 5


class Recurrent(nn.Module):
    """The steps of an RNN are seen as operators alone."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.RNN(4, 5, nonlinearity="relu", batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def test_the_steps_of_an_rnn_have_their_gradients() -> None:
    torch.manual_seed(0)
    model = Recurrent().double()
    x, labels = torch.randn(6, 3, 4).double(), torch.arange(6) % 3
    _, (stats,) = stats_of(EagerProgram(model), [Batch(6, (x,), labels=labels)], "cross_entropy")
    w, u = model.rnn.weight_ih_l0, model.rnn.weight_hh_l0
    h, steps, outs = torch.zeros(6, 5).double(), [], []
    for step in range(3):
        z = F.linear(x[:, step], w, model.rnn.bias_ih_l0) + F.linear(h, u, model.rnn.bias_hh_l0)
        z.retain_grad()
        h = F.relu(z)
        h.retain_grad()
        steps.append(z)
        outs.append(h)
    F.cross_entropy(model.head(h), labels).backward()
    g, gh = (torch.stack([t.grad for t in kept]) for kept in (steps, outs))
    np.testing.assert_allclose(stats.gradient_rms, g.square().mean((0, 1)).sqrt().numpy(), rtol=1e-6)
    sizes = gh.abs().sum((0, 1))
    np.testing.assert_allclose(stats.gradient_score, (sizes / sizes.mean()).numpy(), rtol=1e-6)


def test_a_transformer_layer_with_a_function_inside_is_measured_in_every_batch() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).double()
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten(), nn.Linear(24, 3)
    ).double()
    batches = [Batch(4, (torch.randn(4, 3, 8).double(),), labels=torch.arange(4) % 3) for _ in range(5)]
    _, found = stats_of(EagerProgram(model), batches, "cross_entropy")
    squares = [torch.zeros(12).double() for _ in range(2)]
    model.eval()
    for batch in batches:
        kept: list[Tensor] = []
        hooks = [
            inner.linear1.register_forward_hook(lambda _m, _a, out, kept=kept: (out.retain_grad(), kept.append(out))[0])
            for inner in model[0].layers
        ]
        F.cross_entropy(model(*batch.args), batch.labels).backward()
        for hook in hooks:
            hook.remove()
        for total, z in zip(squares, kept, strict=True):
            total += z.grad.square().sum((0, 1))
    for stats, total in zip(found, squares, strict=True):
        np.testing.assert_allclose(stats.gradient_rms, (total / 60).sqrt().numpy(), rtol=1e-6)
        assert len(stats.gradient_score) == 12


def test_padded_tokens_count_in_neither_sum_nor_positions() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x, attention_mask):  # noqa: ARG002  the padding that a scan leaves out
            return self.head(F.relu(self.first(x))).mean(1)

    torch.manual_seed(0)
    model = Masked().double()
    x, mask = torch.randn(3, 5, 4).double(), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
    batch = Batch(3, (x,), {"attention_mask": mask}, labels=torch.tensor([0, 1, 2]))
    _, (stats,) = stats_of(EagerProgram(model), [batch], "cross_entropy")
    z = model.first(x).detach().requires_grad_()
    F.cross_entropy(model.head(F.relu(z)).mean(1), batch.labels).backward()
    assert stats.positions == 9
    wanted = z.grad[mask.bool()].square().mean(0).sqrt()
    np.testing.assert_allclose(stats.gradient_rms, wanted.numpy(), rtol=1e-6)


def test_processes_that_share_the_batches_add_up_to_one() -> None:
    model, batches = small()
    batches = [*batches, *batches[:1]]
    whole, wanted = stats_of(EagerProgram(model), batches, "cross_entropy")
    parts = []
    for rank in range(2):
        shard = Shard(rank, 2)
        with Scan(EagerProgram(model), Plan(), shard=shard, loss=read_loss("cross_entropy")) as scan:
            for index in range(3):
                if shard.runs(index):
                    scan.run(index, batches[index])
            parts.append(scan.finish())
    merged = merge_measurements(parts)
    for stats, one in zip(site_stats(merged, Plan()), wanted, strict=True):
        np.testing.assert_allclose(stats.gradient_rms, one.gradient_rms, rtol=1e-12)
        np.testing.assert_allclose(stats.gradient_score, one.gradient_score, rtol=1e-12)
        assert stats.zero_gradient_units == one.zero_gradient_units
    assert merged.loss is not None
    assert whole.loss is not None
    assert sorted(b.norm for b in merged.loss.batches) == sorted(b.norm for b in whole.loss.batches)
    assert (merged.loss.right, merged.loss.predictions) == (whole.loss.right, whole.loss.predictions)


def test_nothing_is_kept_beyond_a_batch() -> None:
    model, batches = small()
    with Scan(EagerProgram(model), Plan(), loss=read_loss("cross_entropy")) as scan:
        refs = []
        model[1].register_forward_hook(lambda _m, _a, out: refs.append(torch._C._WeakTensorRef(out)))
        for index, batch in enumerate(batches):
            scan.run(index, batch)
            assert all(ref.expired() for ref in refs)
        scan.finish()


class Wide(nn.Module):
    """A large layer that is called twice, one behind it, and a table with sparse gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(600, 600, sparse=True)
        self.twice, self.behind, self.head = nn.Linear(600, 600), nn.Linear(600, 600), nn.Linear(600, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.twice(F.relu(self.twice(self.table(x)))))
        return self.head(F.relu(self.behind(x)))


@pytest.mark.parametrize(("large", "alive"), [(None, 0), (1 << 30, 1)])
def test_the_norm_is_that_of_all_gradients_and_no_large_one_is_kept_for_it(
    large: int | None, alive: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large is not None:
        monkeypatch.setattr(gradients, "_LARGE", large)
    torch.manual_seed(0)
    model, labels = Wide().double(), torch.arange(8) % 3
    x = torch.randint(600, (8,))
    refs: list[Tensor] = []
    kept: list[int] = []

    def double(gradient: Tensor) -> Tensor:
        """Two hooks of the user's: their result counts, as it does for an optimizer."""
        kept.append(sum(not ref.expired() for ref in refs))  # type: ignore[attr-defined]  # private to torch
        doubled = 2 * gradient
        refs.append(torch._C._WeakTensorRef(doubled))  # type: ignore[arg-type]
        return doubled

    model.twice.weight.register_hook(double)
    model.behind.weight.register_hook(double)
    F.cross_entropy(model(x), labels).backward()
    by_hand = math.sqrt(sum(float(p.grad.to_dense().square().sum()) for p in model.parameters() if p.grad is not None))
    model.zero_grad()
    kept.clear()
    refs.clear()
    measured, _ = stats_of(EagerProgram(model), [Batch(8, (x,), labels=labels)], "cross_entropy")
    assert measured.loss is not None
    assert measured.loss.batches[0].norm == pytest.approx(by_hand, rel=1e-12)
    assert kept == [0, alive]
    assert all(p.grad is None for p in model.parameters())


def test_a_lazy_module_that_is_never_called_is_left_out() -> None:
    model, batches = small()
    expected, _ = stats_of(EagerProgram(model), batches, "cross_entropy")
    model[1].head = nn.LazyLinear(3)
    measured, _ = stats_of(EagerProgram(model), batches, "cross_entropy")
    assert measured.loss == expected.loss


def test_labels_that_do_not_fit_are_one_clear_line() -> None:
    model, batches = small()
    with pytest.raises(DataError, match="labels are 0 to 9, of 3 classes counted from 0"):
        stats_of(EagerProgram(model), [Batch(8, batches[0].args, labels=torch.tensor([0] * 7 + [9]))], "cross_entropy")


class Halves(nn.Module):
    """Overwrites one half of a layer's output, and reads both."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 12), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = self.first(x)
        gate, value = both[..., :6], both[..., 6:]
        gate.relu_()
        return self.head(gate * torch.relu(value))


@pytest.mark.parametrize("shape", [(8, 4), (8, 5, 4)])
def test_a_view_that_is_overwritten_keeps_its_gradient(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = Halves().double(), torch.randn(shape).double()
    labels = torch.randn(*shape[:-1], 3).double()
    _, found = stats_of(EagerProgram(model), [Batch(8, (x,), labels=labels)], "mse")
    z = model.first(x).detach().requires_grad_()
    gate, value = z.chunk(2, dim=-1)
    F.mse_loss(model.head(F.relu(gate) * F.relu(value)), labels).backward()
    wanted = z.grad.reshape(-1, 12).square().mean(0).sqrt().numpy()
    np.testing.assert_allclose(found[0].gradient_rms, wanted[:6], rtol=1e-6)
    np.testing.assert_allclose(found[1].gradient_rms, wanted[6:], rtol=1e-6)


def test_the_base_of_a_view_is_what_torch_calls_so() -> None:
    """A canary: without `_base`, a view that is overwritten in place would seem to have no gradient (torch 2.13.0)."""
    base = torch.randn(4, 6, requires_grad=True) * 1
    assert base_of(base[:, 2:4].t()) is base
    assert base_of(base) is None


def test_what_is_called_below_autograd_is_not_taken_for_unheard() -> None:
    """A scripted part of a live model is seen as operators, in place too; every figure but the score is there."""

    class Part(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x, inplace=True) * 2

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.part, self.head = nn.Linear(4, 6), torch.jit.script(Part()), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.part(self.first(x)))

    torch.manual_seed(0)
    model, (batch, _) = Mixed(), small()[1]
    _, (stats,) = stats_of(EagerProgram(model), [batch] * 4, "cross_entropy")
    z = model.first(batch.args[0]).detach().requires_grad_()
    F.cross_entropy(model.head(F.relu(z) * 2), batch.labels).backward()
    np.testing.assert_allclose(stats.gradient_rms, z.grad.square().mean(0).sqrt().numpy(), rtol=1e-4)
