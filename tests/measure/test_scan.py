"""The life of a scan: it starts, runs batches and finishes, and gives the model back however it is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from deadrelu.errors import ModelError, NothingMeasuredError
from deadrelu.measure.plan import Plan
from deadrelu.measure.scan import Scan, measure
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.program import Batch
from deadrelu.programs.shard import Shard


class Net(nn.Module):
    """Two ReLUs, an embedding with a padding_idx and an attention layer, all of which get hooks; it may raise."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.first = nn.Embedding(9, 4, padding_idx=0), nn.ReLU()
        self.attention, self.last = nn.MultiheadAttention(4, 2, batch_first=True), nn.ReLU()
        self.before_last: Callable[[], None] = lambda: None

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(self.embedding(x))
        y = self.attention(y, y, y)[0]
        self.before_last()
        return self.last(y)


def hooks(model: nn.Module) -> int:
    """How many forward hooks the model and its parts have, of either kind."""
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def batches(count: int = 3) -> list[Batch]:
    return [Batch(2, (torch.randint(1, 9, (2, 5)),)) for _ in range(count)]


def fail(error: BaseException) -> None:
    raise error


def test_hooks_are_on_from_entering_to_leaving_and_no_longer() -> None:
    model = Net()
    scan = Scan(EagerProgram(model), Plan())
    assert hooks(model) == 0
    with scan:
        assert hooks(model) > 0
        scan.run(0, batches(1)[0])
        measurement = scan.finish()
    assert hooks(model) == 0
    assert [(site.site.id, site.counts.samples) for site in measurement.sites] == [("first", 2), ("last", 2)]
    assert (measurement.samples, measurement.batches, measurement.stopped) == (2, 1, None)


@pytest.mark.parametrize(
    ("raised", "expected"), [(ValueError("no"), ModelError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_an_error_of_the_forward_in_the_middle_of_a_batch_gives_the_model_back(
    raised: BaseException, expected: type[BaseException]
) -> None:
    model = Net().train()
    model.first.eval()
    parameters = [p.clone() for p in model.parameters()]
    model.before_last = partial(fail, raised)
    with pytest.raises(expected):
        measure(EagerProgram(model), batches(), Plan())
    assert hooks(model) == 0
    assert (model.training, model.first.training, model.last.training) == (True, False, True)
    assert all(map(torch.equal, model.parameters(), parameters))
    model.before_last = lambda: None
    assert measure(EagerProgram(model), batches(), Plan()).batches == 3


@pytest.mark.parametrize("raised", [OSError("the disk is on fire"), KeyboardInterrupt(), GeneratorExit()])
def test_an_error_of_the_loader_comes_out_as_it_is_and_gives_the_model_back(raised: BaseException) -> None:
    def loader() -> Iterator[Batch]:
        yield from batches(2)
        raise raised

    model = Net()
    with pytest.raises(type(raised)) as caught:
        measure(EagerProgram(model), loader(), Plan())
    assert caught.value is raised
    assert hooks(model) == 0


def test_an_error_while_starting_leaves_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Net()
    scan = Scan(EagerProgram(model), Plan())
    monkeypatch.setattr(scan._observer.padding, "watching", partial(fail, OSError("no")))
    with pytest.raises(OSError, match="no"), scan:
        raise AssertionError("the block was entered")
    assert hooks(model) == 0


def test_a_batch_of_another_rank_shows_its_sites_and_counts_nothing() -> None:
    model = Net()
    with Scan(EagerProgram(model), Plan(), shard=Shard(1, 2)) as scan:
        scan.run(0, batches(1)[0])
        measurement = scan.finish()
    assert [(site.site.id, site.counts.positions) for site in measurement.sites] == [("first", 0), ("last", 0)]
    assert (measurement.samples, measurement.batches) == (0, 0)


def test_without_a_batch_nothing_is_measured() -> None:
    with pytest.raises(NothingMeasuredError, match="not one batch"):
        measure(EagerProgram(Net()), [], Plan())
