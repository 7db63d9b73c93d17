"""`deadrelu.scan` on a live module: any form of data, and the caller's model comes back as it was."""

from __future__ import annotations

import copy
import importlib.util
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import deadrelu
from deadrelu.errors import DataError, ModelError, NothingMeasuredError, UsageError

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_models"
SCHEMA = json.loads((ROOT / "deadrelu" / "report.schema.json").read_text())


class Moody(nn.Module):
    """Batch norm, dropout, an encoder layer, a functional relu; told to, its forward raises half way through."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.encoder = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.relu(self.norm(self.first(x))))
        if self.error is not None:
            raise self.error
        return torch.relu(self.encoder(x.unsqueeze(1)).squeeze(1))


def moody(error: BaseException | None = None) -> Moody:
    """A model in training, but for a frozen norm, with hooks of its owner's."""
    torch.manual_seed(1)
    model = Moody(error).train()
    model.norm.eval()
    model.first.weight.requires_grad_(False)
    model.relu.register_forward_hook(lambda *_: None)
    model.first.register_forward_pre_hook(lambda *_: None)
    return model


def state_of(model: nn.Module) -> dict[str, Any]:
    """All that a scan could disturb, in a form that compares."""
    return {
        "training": [module.training for module in model.modules()],
        "hooks": [
            [list(hooks.values()) for name, hooks in vars(module).items() if name.endswith("_hooks")]
            for module in model.modules()
        ],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "tensors": [(t.data_ptr(), t.device, t.dtype, t.requires_grad, t._version) for t in tensors(model)],
        "values": [tuple(t.flatten().tolist()) for t in tensors(model)],
        "gradients": [parameter.grad for parameter in model.parameters()],
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "grad mode": torch.is_grad_enabled(),
        "dice": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
    }


def tensors(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers."""
    return [*model.parameters(), *model.buffers()]


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(50, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "options",
    [
        {"skip_sites": ["layer1*"]},
        {"sites": ["layer1*"]},
        {"feature_axes": {"layer1": 1}},
        {"policy": deadrelu.Policy(limits=(("layer1*", 0.5),))},
        {"policy": deadrelu.Policy(ignore=("DR004@layer1*",))},
    ],
)
def test_a_glob_that_matches_no_site_is_an_error(x: Tensor, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no site matches 'layer1") as refused:
        deadrelu.scan(nn.Sequential(nn.Linear(6, 4), nn.ReLU()), x, **options)
    assert "the sites are 1" in refused.value.hint


def test_a_glob_may_match_a_site_that_is_skipped_or_left_out(x: Tensor) -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.never = nn.Linear(6, 4), nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.act(self.fc(x)) - 0.1)

    policy = deadrelu.Policy(limits=(("never", 0.5), ("act", 0.5), (":relu#1", 0.5)))
    report = deadrelu.scan(Half(), x, policy=policy, skip_sites=["act"])
    assert [stats.site.id for stats in report.sites] == ["fc:relu"]


@pytest.mark.parametrize("device", [None, "auto", "cpu"])
def test_the_model_comes_back_as_it_was(x: Tensor, device: str | None) -> None:
    model = moody()
    before = state_of(model)
    report = deadrelu.scan(model, x, device=device)
    assert state_of(model) == before
    assert [stats.site.id for stats in report.sites] == ["relu", "encoder.linear1:relu", "encoder.norm2:relu"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(0), MemoryError()], ids=repr)
def test_the_model_comes_back_as_it_was_after_an_error_too(x: Tensor, error: BaseException) -> None:
    model = moody(error)
    before = state_of(model)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ModelError
    with pytest.raises(expected):
        deadrelu.scan(model, x)
    assert state_of(model) == before


def test_no_seed_is_left_behind_for_a_gpu_that_is_not_at_work_yet(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.manual_seed` queues one, with which every GPU would begin when its owner comes to use it."""
    model = moody()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail(f"all GPUs shall begin with {seed}"))
    deadrelu.scan(model, x, device="cpu")


@pytest.mark.parametrize("switch", [True, False])
def test_the_fast_path_is_left_as_its_owner_set_it(x: Tensor, switch: bool) -> None:
    torch.backends.mha.set_fastpath_enabled(switch)
    try:
        deadrelu.scan(moody(), x)
        assert torch.backends.mha.get_fastpath_enabled() is switch
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_the_model_trains_on_as_if_it_had_not_been_scanned(x: Tensor) -> None:
    def losses(model: nn.Module, *, scanned: bool) -> list[float]:
        optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
        torch.manual_seed(5)
        seen = []
        for _ in range(4):
            if scanned:
                deadrelu.scan(model, x)
            loss = model(x).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen.append(loss.item())
        return seen

    assert losses(moody(), scanned=True) == losses(moody(), scanned=False)


class TwoInputs(nn.Module):
    """Takes its inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.relu = nn.Linear(6, 4), nn.Linear(6, 4), nn.ReLU()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.relu(self.left(a) - self.right(b))


def one_input() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))


def test_every_form_of_data_gives_the_same_counts(x: Tensor) -> None:
    labels = torch.arange(len(x))
    forms: dict[str, Any] = {
        "tensor": x,
        "array": x.numpy(),
        "pair": (x, labels),
        "data set": TensorDataset(x, labels),
        "loader": DataLoader(TensorDataset(x, labels), batch_size=7),
        "list of batches": list(x.split(7)),
        "generator": ((part, None) for part in x.split(9)),
        "function": lambda: iter(x.split(11)),
        "mapping": {"x": x, "y": labels},
    }
    reports = {name: deadrelu.scan(one_input(), data) for name, data in forms.items()}
    z = one_input()[0](x)
    fires = tuple(((z > 0).sum(0) / len(x)).tolist())
    for name, report in reports.items():
        assert report.data.samples == 50, name
        assert report.sites[0].firing_rate == pytest.approx(fires, abs=1e-7), name
        assert report.sites[0].site == reports["tensor"].sites[0].site, name
    assert reports["loader"].data.batches == 8


def test_dictionaries_become_keyword_arguments(x: Tensor) -> None:
    model = TwoInputs()
    whole = deadrelu.scan(model, {"b": x, "a": -x})
    batches = deadrelu.scan(model, [{"b": part, "a": -part, "label": part} for part in x.split(10)])
    rate = ((model.left(-x) - model.right(x)) > 0).double().mean(0)
    assert whole.sites[0].firing_rate == pytest.approx(rate.tolist(), abs=1e-7)
    (one,), (other,) = whole.sites, batches.sites
    assert other.mean_activation == pytest.approx(one.mean_activation, rel=1e-6)  # added in another order
    assert replace(other, mean_activation=one.mean_activation, dormancy=one.dormancy) == one


def test_planted_dead_units_are_found_one_by_one(x: Tensor) -> None:
    model = one_input()
    planted = (2, 5, 11)
    with torch.no_grad():
        model[0].bias[list(planted)] = -1e3
    z = model[0](x)
    alive = [unit for unit in range(12) if (z[:, unit] > 0).any()]
    report = deadrelu.scan(model, x)
    assert set(planted) <= set(report.sites[0].dead_units)
    assert [unit for unit in range(12) if unit not in report.sites[0].dead_units] == alive


def test_a_report_survives_json_and_fits_the_schema(x: Tensor) -> None:
    report = deadrelu.scan(moody(), x, policy=deadrelu.Policy(max_dead=0.05, ignore=("DR004",)))
    text = report.to_json()
    jsonschema.validate(json.loads(text), SCHEMA)
    again = deadrelu.Report.from_json(text)
    assert again.to_json() == text
    assert again.sites == report.sites
    assert again.verdict == report.verdict
    assert report.model.path is None
    assert report.model.format == "live module"


def test_a_path_and_the_module_in_it_give_the_same_sites() -> None:
    data = np.load(SAMPLES / "digits.npz")["x"]
    module = deadrelu.open_model(SAMPLES / "dying.pt").module
    assert deadrelu.scan(module, data).sites == deadrelu.scan(SAMPLES / "dying.pt", data).sites


def test_the_gate_is_in_the_report_and_in_its_exit_code(x: Tensor) -> None:
    model = one_input()
    with torch.no_grad():
        model[0].bias.fill_(-1e3)
    report = deadrelu.scan(model, x)
    assert (report.verdict, deadrelu.exit_code(report)) == ("fail", deadrelu.ExitCode.GATE_FAILED)
    assert deadrelu.exit_code(report, exit_zero=True) == 0
    assert "DR002" in [finding.rule for finding in report.findings]


def test_errors_are_classes_with_a_next_step(x: Tensor) -> None:
    with pytest.raises(NothingMeasuredError) as nothing:
        deadrelu.scan(nn.Linear(6, 6), x)
    with pytest.raises(DataError) as data:
        deadrelu.scan(one_input(), 7)
    with pytest.raises(UsageError) as usage:
        deadrelu.scan(one_input(), x, sites=["nothing"])
    for raised in (nothing, data, usage):
        assert isinstance(raised.value, deadrelu.DeadreluError)
        assert raised.value.hint


def test_progress_is_told_the_samples_seen(x: Tensor) -> None:
    seen: list[int] = []
    deadrelu.scan(one_input(), x, batch_size=20, progress=seen.append)
    assert seen == [20, 40, 50]


def test_a_library_call_prints_nothing(x: Tensor, capfd: pytest.CaptureFixture[str]) -> None:
    deadrelu.scan(one_input(), x)
    deadrelu.scan(one_input())
    assert capfd.readouterr() == ("", "")


def test_a_stream_without_an_end_is_cut_at_the_samples(x: Tensor) -> None:
    def endless() -> Iterator[Tensor]:
        while True:
            yield x

    assert deadrelu.scan(one_input(), endless(), samples=120).data.samples == 120


def test_data_parallel_bears_the_users_names(x: Tensor) -> None:
    model = moody()
    plain = deadrelu.scan(copy.deepcopy(model), x)
    wrapped = nn.DataParallel(model)
    before = state_of(wrapped)
    assert deadrelu.scan(wrapped, x).sites == plain.sites
    assert state_of(wrapped) == before


@pytest.mark.skipif(
    shutil.which("c++") is None or importlib.util.find_spec("torch._inductor") is None,
    reason="torch.compile needs a C++ compiler",
)
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_a_compiled_model_bears_the_users_names_and_stays_compiled(x: Tensor, backend: str) -> None:
    plain = deadrelu.scan(one_input(), x)
    compiled = torch.compile(one_input(), backend=backend)
    with torch.no_grad():
        expected = compiled(x)
    assert deadrelu.scan(compiled, x).sites == plain.sites
    with torch.no_grad():
        assert torch.equal(compiled(x), expected)
    in_place = one_input()
    in_place.compile(backend=backend)
    in_place(x)
    call = in_place._compiled_call_impl
    assert deadrelu.scan(in_place, x).sites == plain.sites
    assert in_place._compiled_call_impl is call


@pytest.mark.parametrize("limit", ["5%", 0.05, Fraction(1, 20)])
def test_limits_are_arguments_of_a_scan_in_every_form(x: Tensor, limit: str | float | Fraction) -> None:
    model = one_input()
    with torch.no_grad():
        model[0].bias[0] = -1e3
    report = deadrelu.scan(model, x, max_dead=limit)
    assert (report.verdict, report.settings["max_dead"]) == ("fail", 0.05)
    assert report == deadrelu.scan(model, x, policy=deadrelu.Policy(max_dead=0.05))
    assert deadrelu.scan(model, x, max_dead=limit, limits={"1": "50%"}).verdict == "pass"
    assert deadrelu.scan(model, x, max_dead_total=limit).verdict == "fail"
    flat = deadrelu.scan(model, x, max_saturated=limit)
    assert (flat.verdict, flat.settings["max_saturated"]) == ("pass", 0.05)
    with pytest.raises(UsageError, match="policy and max_saturated were both given"):
        deadrelu.scan(model, x, max_saturated=limit, policy=deadrelu.Policy())
    with pytest.raises(UsageError, match="a scan that stops early cannot judge saturated units"):
        deadrelu.scan(model, x, max_saturated=limit, until="verdict")
    with pytest.raises(UsageError, match="policy and max_dead were both given"):
        deadrelu.scan(model, x, max_dead=limit, policy=deadrelu.Policy())
    with pytest.raises(UsageError, match="max_dead must be between 0 and 1 or a percentage such as '5%', got 5"):
        deadrelu.scan(model, x, max_dead=5)


def test_suggest_takes_a_report_or_a_model_with_its_data(x: Tensor) -> None:
    model = one_input()
    with torch.no_grad():
        model[0].bias[0] = -1e3
    advice = deadrelu.suggest(model, x, batch_size=10, slope=0.1)
    assert advice == deadrelu.suggest(deadrelu.scan(model, x, batch_size=10), slope=0.1)
    assert [item.site for item in advice.items if item.ailment == "some dead"] == ["1"]
    assert repr(advice).startswith("<Advice on a model in memory: ")
    saved = deadrelu.suggest(SAMPLES / "dying.pt", SAMPLES / "digits.npz", samples=200)
    assert [item.site for item in saved.items if item.ailment == "mostly dead"] == ["1", "3", "5"]


def test_a_report_needs_no_data_to_advise_on(x: Tensor) -> None:
    report = deadrelu.scan(one_input(), x)
    with pytest.raises(UsageError, match="a report was measured already, so data has no effect"):
        deadrelu.suggest(report, x)
    with pytest.raises(UsageError, match="a report was measured already, so batch_size has no effect"):
        deadrelu.suggest(report, batch_size=3)
    with pytest.raises(UsageError, match="not between 0 and 1"):
        deadrelu.suggest(one_input(), x, slope=2)
