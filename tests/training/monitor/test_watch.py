"""Watching a model while it trains: counts against a scan of the same batches, and nothing of ours left behind."""

from __future__ import annotations

import copy
import io
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from jsonschema import Draft202012Validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import deadrelu
from deadrelu.errors import OutputError, TooManyDeadError, UsageError
from deadrelu.report.run import Event, read_run
from deadrelu.training.monitor.monitor import Monitor

CALL = nn.Module.__call__


class Functional(nn.Module):
    """Functional calls, one module called twice, a convolution and a layer on tokens."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.relu = nn.ReLU()
        self.hidden = nn.Linear(6 * 36, 16)
        self.mix = nn.Linear(16, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x))).flatten(1)
        x = self.relu(self.hidden(x))
        return self.head(F.relu(self.mix(x)) + torch.relu(x))


class Tokens(nn.Module):
    """A transformer, where a row is a token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 12)
        layer = nn.TransformerEncoderLayer(12, 2, 20, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embed(x.flatten(2).squeeze(1).unflatten(-1, (8, 8)))).mean(1))


class Checkpointed(Functional):
    """The same, with its middle computed again in the backward pass."""

    def __init__(self, *, use_reentrant: bool) -> None:
        super().__init__()
        self.use_reentrant = use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x)).flatten(1)
        x = checkpoint(lambda h: self.relu(self.hidden(h)), x, use_reentrant=self.use_reentrant)
        return self.head(F.relu(self.mix(x)) + torch.relu(x))


def mlp() -> nn.Sequential:
    layers = (nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU6(), nn.Linear(12, 10))
    return nn.Sequential(*layers)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "functional": Functional,
    "tokens": Tokens,
    "reentrant": lambda: Checkpointed(use_reentrant=True),
    "not reentrant": lambda: Checkpointed(use_reentrant=False),
    "sigmoid": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Sigmoid(), nn.Linear(9, 10)),
}


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 1, 8, 8, generator=generator), torch.randint(10, (n,), generator=generator)) for n in sizes]


def made(name: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = MODELS[name]()
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def figures(report: deadrelu.Report) -> dict[str, Any]:
    """What a scan without maxima knows of each site."""
    return {
        s.site.id: (s.site.units, s.samples, s.positions, s.rows, s.firing_rate, s.sample_rate, s.dead_units)
        for s in report.sites
    }


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert nn.Module.__call__ is CALL


@pytest.mark.parametrize("name", MODELS)
def test_a_window_is_what_a_scan_of_the_saved_batches_counts(name: str) -> None:
    model, optimizer = made(name)
    with deadrelu.watch(model, every=1) as monitor:
        for x, y in batches(32, 32, 7, 50, 1, 32):
            before = copy.deepcopy(model)
            train(model, optimizer, x, y)
            window = monitor.step()
            scanned = deadrelu.scan(before, x, stats="rates")
            assert figures(monitor.report()) == figures(scanned)
            assert window is not None
            assert [(s.id, s.dead, s.saturated, s.rare) for s in window.sites] == [
                (s.site.id, s.dead, s.saturated, len(s.rare_units)) for s in scanned.sites
            ]
            assert window.samples == len(x)


def test_the_passes_of_a_step_add_up_and_others_do_not_count() -> None:
    """Gradients accumulated over three batches, with a pass in eval mode and one without a step in between."""
    model, optimizer = made("functional")
    given = batches(8, 16, 5)
    with deadrelu.watch(model, every=2) as monitor:
        for number in (1, 2, 3, 4):
            before = copy.deepcopy(model)
            for x, y in given:
                F.cross_entropy(model(x), y).backward()
                model.eval()
                model(torch.randn(64, 1, 8, 8))
                model.train()
            optimizer.step()
            window = monitor.step()
            assert (window is not None) == (number in (1, 2, 4))
            if window is not None:
                whole = torch.cat([x for x, _ in given])
                assert figures(monitor.report()) == figures(deadrelu.scan(before, whole, stats="rates"))


def test_mixed_precision_counts_what_the_model_computed() -> None:
    model, optimizer = made("mlp")
    (x, y), *_ = batches(64)
    seen: list[Tensor] = []
    model[2].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))  # type: ignore[operator,index]
    with deadrelu.watch(model, every=1) as monitor:
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        monitor.step()
        rates = next(s for s in monitor.report().sites if s.site.id == "2").firing_rate
    assert seen[0].dtype is torch.bfloat16
    assert torch.allclose(torch.tensor(rates), (seen[0] > 0).float().mean(0))


def test_a_pass_that_raises_is_not_counted() -> None:
    model, optimizer = made("mlp")
    (x, y), *_ = batches(16)
    with deadrelu.watch(model, every=1) as monitor:
        wrong = torch.randn(16, 3)
        with pytest.raises(RuntimeError):
            model(wrong)
        train(model, optimizer, x, y)
        window = monitor.step()
    assert window is not None
    assert window.samples == 16


def test_a_pass_on_meta_tensors_is_not_counted() -> None:
    """As Keras makes one in the first step, to find out shapes."""
    model = mlp()
    x = batches(8)[0][0].flatten(1)
    with deadrelu.watch(model, every=1) as monitor:
        torch.func.functional_call(model, {k: v.to("meta") for k, v in model.state_dict().items()}, (x.to("meta"),))
        model(x)
        window = monitor.step()
    assert window is not None
    assert window.samples == 8


def test_an_error_in_the_loop_leaves_nothing_on_the_model() -> None:
    model, optimizer = made("functional")

    def loop() -> None:
        with deadrelu.watch(model, every=1, optimizer=optimizer):
            model(batches(4)[0][0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop()
    assert nn.Module.__call__ is CALL
    assert all(not m._forward_pre_hooks and not m._forward_hooks for m in model.modules())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_copies_and_files_of_a_watched_model_have_nothing_of_ours() -> None:
    model, optimizer = made("functional")
    (x, y), *_ = batches(8)
    names = [set(vars(module)) for module in model.modules()]
    with deadrelu.watch(model, every=1, optimizer=optimizer) as monitor:
        for _ in range(2):
            train(model, optimizer, x, y)
            for copied in (model, copy.deepcopy(model)):
                assert [set(vars(module)) for module in copied.modules()] == names
                assert not any(m._forward_pre_hooks or m._forward_hooks for m in copied.modules())
                file = io.BytesIO()
                torch.save(copied, file)
                assert b"deadrelu" not in file.getvalue()
                assert b"deadrelu" not in pickle.dumps(copied)
            assert b"deadrelu" not in pickle.dumps(optimizer)
            monitor.step()


def test_two_models_are_watched_at_once() -> None:
    (first, a), (second, b) = made("mlp"), made("functional")
    (x, y), *_ = batches(16)
    with deadrelu.watch(first, every=1) as one, deadrelu.watch(second, every=1) as two:
        train(first, a, x, y)
        train(second, b, x, y)
        windows = one.step(), two.step()
    assert [len(w.sites) for w in windows if w] == [2, 4]


def planted(unit: int, at: int, steps: int, every: int, **options: Any) -> tuple[Monitor, list[Event]]:
    """A run in which a unit's bias is pushed down before a step."""
    model, optimizer = made("mlp")
    events: list[Event] = []
    x, y = batches(512)[0]
    chance = torch.Generator().manual_seed(0)
    with deadrelu.watch(model, every=every, on_event=events.append, **options) as monitor:
        for step in range(1, steps + 1):
            rows = torch.randint(512, (64,), generator=chance)
            if step == at:
                with torch.no_grad():
                    model[1].bias[unit] = -50.0  # type: ignore[index,union-attr]
            train(model, optimizer, x[rows], y[rows])
            monitor.step()
    return monitor, events


@pytest.mark.parametrize(("every", "at"), [(1, 30), (10, 40)])
def test_a_planted_death_is_reported_at_its_window_and_once(every: int, at: int) -> None:
    _, events = planted(5, at, 100, every)
    assert events == [Event(kind="died", step=at, site="2", unit=5)]


def test_a_dead_unit_that_is_woken_is_reported() -> None:
    model, optimizer = made("mlp")
    events: list[Event] = []
    x, y = batches(64)[0]
    with deadrelu.watch(model, every=1, on_event=events.append) as monitor:
        for bias in (None, None, -50.0, None, 0.0, None):
            if bias is not None:
                with torch.no_grad():
                    model[1].bias[:] = bias  # type: ignore[index,union-attr]
            train(model, optimizer, x, y)
            monitor.step()
    kinds = [(event.kind, event.step) for event in events]
    died = [unit for event in events if event.kind == "died" and (unit := event.unit) is not None]
    assert kinds.count(("site died", 3)) == kinds.count(("site revived", 5)) == 1
    assert sorted(e.unit or 0 for e in events if e.kind == "revived") == sorted(died) != []
    assert monitor.events == tuple(events)


def test_a_model_of_which_no_unit_dies_has_no_event_in_2000_steps() -> None:
    """Each unit fires on a tenth of the samples at least, all the time: the whole data shows it."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    x, y = torch.randn(512, 64), torch.randint(10, (512,))
    least = 1.0
    with deadrelu.watch(model, every=1) as monitor:
        for step in range(2000):
            rows = torch.randint(512, (32,))
            train(model, optimizer, x[rows], y[rows])
            monitor.step()
            if step % 20 == 0:
                with torch.no_grad():
                    h = model[:2](x), model[:4](x)
                least = min(least, *(float((z > 0).float().mean(0).min()) for z in h))
    assert least > 0.02
    assert monitor.events == ()


def test_non_finite_values_are_an_event_and_no_silence() -> None:
    model, optimizer = made("mlp")
    x, y = batches(16)[0]
    with deadrelu.watch(model, every=1) as monitor:
        for bad in (0.0, float("nan"), float("nan")):
            train(model, optimizer, x + bad, y)
            monitor.step()
    first = [e for e in monitor.events if e.site == "2"]
    assert first == [Event(kind="non-finite", step=2, site="2")]


def test_what_a_step_does_is_what_its_weights_and_gradients_say() -> None:
    model, optimizer = made("mlp")
    x, y = batches(32)[0]
    with torch.no_grad():
        model[1].bias[3] = -50.0  # type: ignore[index,union-attr]
    with deadrelu.watch(model, every=1, optimizer=optimizer) as monitor:
        train(model, optimizer, x, y)  # the first pass shows which layers there are
        monitor.step()
        before = copy.deepcopy(model)
        train(model, optimizer, x, y)
        window = monitor.step()
    assert window is not None
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert window.gradient_norm == pytest.approx(float(gradients.norm()), rel=1e-5)
    old, new = before[1].weight, model[1].weight  # type: ignore[index]
    assert window.sites[0].update == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-5)
    assert window.sites[0].zero_gradient == int((model[1].weight.grad == 0).all(1).sum())  # type: ignore[index]


def test_a_death_says_how_far_the_step_before_it_went() -> None:
    model, optimizer = made("mlp")
    x, y = batches(64)[0]
    x = x.abs()  # so that a large step takes all inputs of a unit to one side
    with deadrelu.watch(model, every=1, optimizer=optimizer) as monitor:
        for step in range(1, 8):
            if step == 5:
                optimizer.param_groups[0]["lr"] = 1000.0
            before = copy.deepcopy(model[1].weight)  # type: ignore[index]
            train(model, optimizer, x, y)
            if step == 5:
                moved = ((model[1].weight - before).norm(dim=1) / before.norm(dim=1)).tolist()  # type: ignore[index]
            monitor.step()
            optimizer.param_groups[0]["lr"] = 0.0
    died = [e for e in monitor.events if e.kind == "died" and e.site == "2" and e.step == 6]
    assert died
    assert all(e.update == pytest.approx(moved[e.unit or 0], rel=1e-5) for e in died)


def test_a_gradient_that_explodes_or_vanishes_is_an_event() -> None:
    model, optimizer = made("mlp")
    x, y = batches(32)[0]
    with deadrelu.watch(model, every=1, optimizer=optimizer) as monitor:
        for step in range(1, 31):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y) * (1e5 if step == 20 else 1e-6 if step == 25 else 1.0)
            loss.backward()
            optimizer.param_groups[0]["lr"] = 0.0
            optimizer.step()
            monitor.step()
    assert [(e.kind, e.step) for e in monitor.events] == [("gradient exploded", 20), ("gradient vanished", 25)]


def test_a_state_that_was_saved_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    def run(stops: bool) -> tuple[list[Event], str]:
        log = tmp_path / f"{stops}.jsonl"
        model, optimizer = made("mlp")
        x, y = batches(64)[0]
        monitor = deadrelu.watch(model, every=2, log=log)
        events: list[Event] = []
        monitor.start()
        for step in range(1, 21):
            if step == 10:
                with torch.no_grad():
                    model[1].bias[2] = -50.0  # type: ignore[index,union-attr]
            train(model, optimizer, x, y)
            monitor.step()
            if stops and step in (9, 10, 15):
                events += monitor.events
                monitor.stop()
                state = pickle.loads(pickle.dumps(monitor.state_dict()))
                monitor = deadrelu.watch(model, every=2, log=log)
                monitor.load_state_dict(state)
                monitor.start()
        monitor.stop()
        return [*events, *monitor.events], log.read_text()

    assert run(stops=True) == run(stops=False)


def test_the_log_is_a_line_a_window_that_can_be_read_at_any_time(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    model, optimizer = made("mlp")
    x, y = batches(16)[0]
    values: list[tuple[dict[str, float], int]] = []
    with deadrelu.watch(model, every=3, log=[log, lambda v, step: values.append((v, step))]) as monitor:
        for step in range(1, 10):
            train(model, optimizer, x, y)
            window = monitor.step()
            whole = log.read_text()
            run = read_run(whole + whole.splitlines()[0][:50])  # cut off
            assert run.windows[-1].step == (1 if step < 3 else step // 3 * 3)
            if window is not None:
                assert run.windows[-1] == window
    assert [step for _, step in values] == [1, 3, 6, 9]
    assert values[0][0]["deadrelu/2/dead"] == monitor.run.windows[0].sites[0].dead
    with pytest.raises(OutputError, match="exists"), deadrelu.watch(model, log=log):
        pass


def test_too_many_dead_units_raise_warn_or_stop(caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"max_dead": "5%", "dead_after": 10**9}  # one unit of 24 is less, two are more
    assert not planted(5, 10, 30, 1, **options)[0].should_stop
    model, optimizer = made("mlp")
    x, y = batches(64)[0]

    def run(then: Any) -> Monitor:
        with deadrelu.watch(model, every=1, then=then, **options) as monitor:
            for _ in range(3):
                train(model, optimizer, x, y)
                monitor.step()
                with torch.no_grad():
                    model[1].bias[:2] = -50.0  # type: ignore[index,union-attr]
            with torch.no_grad():
                model[1].bias[:2] = 0.0  # type: ignore[index,union-attr]
        return monitor

    assert run("stop").should_stop
    with caplog.at_level("WARNING", logger="deadrelu"):
        assert not run("warn").should_stop
    assert "2 of 24 units of 2 are dead" in caplog.text
    with pytest.raises(TooManyDeadError, match="more than 5%"):
        run("raise")


def test_a_compiled_model_needs_a_probe_and_stays_compiled() -> None:
    model, _ = made("mlp")
    compiled = torch.compile(model, backend="eager")
    with pytest.raises(UsageError, match="is compiled") as error:
        deadrelu.watch(compiled)  # type: ignore[arg-type]
    assert "probe=" in error.value.hint
    x, y = batches(40)[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with deadrelu.watch(compiled, every=1, probe=x) as monitor:  # type: ignore[arg-type]
        train(compiled, optimizer, x, y)  # type: ignore[arg-type]
        monitor.step()
        assert monitor.way.counted == "probe"
        assert "is compiled" in monitor.way.why
        assert model.training
        assert figures(monitor.report()) == figures(deadrelu.scan(model, x, stats="rates"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"every": 0}, "every=0"),
        ({"batch_size": 3}, "batch_size is about"),
        ({"log": 3}, "log is neither"),
        ({"then": "explode"}, "then='explode'"),
        ({"dead_after": 0}, "dead_after=0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        deadrelu.watch(mlp(), **options)


@pytest.mark.parametrize("model", ["model.pt", torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))])
def test_what_cannot_be_trained_is_refused(model: Any) -> None:
    with pytest.raises(UsageError, match=r"only a live nn.Module"):
        deadrelu.watch(model)


def test_a_step_outside_of_the_block_and_a_model_that_does_not_run(caplog: pytest.LogCaptureFixture) -> None:
    monitor = deadrelu.watch(mlp(), every=1)
    with pytest.raises(UsageError, match="not at work"):
        monitor.step()
    with caplog.at_level("WARNING", logger="deadrelu"), monitor:
        assert monitor.step() is None
        assert monitor.step() is None
    assert caplog.text.count("no forward pass") == 1
    with pytest.raises(UsageError, match="no step was counted"):
        monitor.report()


def test_every_line_fits_the_schema(tmp_path: Path) -> None:
    schema = json.loads(files("deadrelu").joinpath("run.schema.json").read_text("utf-8"))
    log = tmp_path / "run.jsonl"
    model, optimizer = made("mlp")
    x, y = batches(64)[0]
    with deadrelu.watch(model, every=1, log=log, optimizer=optimizer) as monitor:
        for step in range(6):
            if step == 3:
                with torch.no_grad():
                    model[1].bias[:] = -50.0  # type: ignore[index,union-attr]
            train(model, optimizer, x * (float("inf") if step == 5 else 1.0), y)
            monitor.step()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in log.read_text().splitlines()]
    for line in lines:
        Draft202012Validator(schema).validate(line)
    kinds = {event["kind"] for line in lines for event in line["events"]}
    assert {"died", "site died", "non-finite"} <= kinds


class Varying(nn.Module):
    """Its first site has another number of units in each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.odd = nn.Linear(8, 6), nn.ReLU()
        self.second, self.even = nn.Linear(8, 5), nn.ReLU()
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.odd(self.first(x)[:, : len(x) % 5 + 2].contiguous())
        return self.head(self.even(self.second(x)))


def test_a_site_that_cannot_be_counted_does_not_rename_the_others() -> None:
    torch.manual_seed(0)
    model = Varying()
    seen = []
    with deadrelu.watch(model, every=1) as monitor:
        for samples in (10, 11, 12):
            x = torch.randn(samples, 8)
            model(x).sum().backward()
            window = monitor.step()
            assert window is not None
            seen.append([(site.id, site.units) for site in window.sites])
            even = next(site for site in window.sites if site.id == "even")
            assert even.firing_rate == pytest.approx(float((model.second(x) > 0).double().mean()))
    assert seen == [[("odd", 2), ("even", 5)], [("even", 5)], [("even", 5)]]


def test_a_saturated_unit_is_not_dead() -> None:
    """Its derivative is not exactly zero; and at 6 a ReLU6 is dead, but its output is not 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.Sigmoid(), nn.Linear(6, 4), nn.ReLU6(), nn.Linear(4, 3))
    with torch.no_grad():
        model[2].bias[:] = 3.0
    with deadrelu.watch(model, every=1, max_dead="30%", dead_after=100) as monitor:
        for step in range(6):
            if step == 2:
                with torch.no_grad():
                    model[0].bias[:3] = -40.0
                    model[2].bias[0] = 40.0
            x = torch.randn(400, 8)
            model(x).sum().backward()
            window = monitor.step()
    assert window is not None
    assert [(s.dead, s.saturated, s.silent_for[:2]) for s in window.sites] == [(0, 3, (0, 0)), (1, 0, (1600, 0))]
    assert [(e.kind, e.site, e.unit) for e in monitor.events] == [("died", "3", 0)]
    before = model(x)
    assert deadrelu.recycle(model, None, monitor) == {}
    assert torch.equal(model(x), before)


class Masked(nn.Module):
    """A transformer whose padding is left out."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.body(x, src_key_padding_mask=mask).mean(1))


def test_padding_is_left_out_in_every_window_as_in_a_scan() -> None:
    torch.manual_seed(0)
    model = Masked()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with deadrelu.watch(model, every=2) as monitor:
        for _ in range(6):
            x, mask = torch.randn(6, 5, 8), torch.zeros(6, 5, dtype=torch.bool)
            mask[:3, 3:] = True
            before = copy.deepcopy(model)
            model(x, mask).sum().backward()
            optimizer.step()
            if monitor.step() is not None:
                scanned = deadrelu.scan(before, [{"x": x, "mask": mask}], stats="rates")
                assert figures(monitor.report()) == figures(scanned)
                assert {site.positions for site in scanned.sites} == {24}


def test_a_glob_that_matches_no_site_is_an_error_and_others_choose() -> None:
    model, optimizer = made("mlp")
    x, y = batches(16)[0]
    with deadrelu.watch(model, every=1, sites=["nothing*"]) as monitor:
        train(model, optimizer, x, y)
        with pytest.raises(UsageError, match=r"nothing\*"):
            monitor.step()
    with deadrelu.watch(model, every=1, skip_sites=["2"]) as monitor:
        train(model, optimizer, x, y)
        window = monitor.step()
    assert window is not None
    assert [site.id for site in window.sites] == ["4"]


def test_a_run_that_was_cut_off_in_a_line_goes_on_with_a_whole_one(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    model, optimizer = made("mlp")
    x, y = batches(16)[0]
    with deadrelu.watch(model, every=1, log=log) as monitor:
        train(model, optimizer, x, y)
        monitor.step()
    with log.open("a") as file:
        file.write('{"step":2,"sam')
    second = deadrelu.watch(model, every=1, log=log)
    second.load_state_dict(monitor.state_dict())
    with second:
        train(model, optimizer, x, y)
        second.step()
    assert [window.step for window in read_run(log.read_text()).windows] == [1, 2]


def test_a_loop_in_another_thread_is_counted() -> None:
    model, optimizer = made("mlp")
    x, y = batches(16)[0]
    monitor = deadrelu.watch(model, every=1)
    windows: list[Any] = []

    def loop() -> None:
        with monitor:
            train(model, optimizer, x, y)
            windows.append(monitor.step())

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    assert [window.samples for window in windows] == [16]
