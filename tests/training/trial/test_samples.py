"""Training samples: every one once an epoch, the same for every arm of a seed, and none that is validated on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from deadrelu.data.spec import DataSpec, Labelling
from deadrelu.errors import DeadreluError
from deadrelu.programs.eager.program import EagerProgram
from deadrelu.programs.pytree import tensor_leaves
from deadrelu.training.trial.samples import Samples, open_samples

PROGRAM = EagerProgram(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
ROWS = torch.arange(50.0)[:, None].expand(50, 3).contiguous()
LABELS = torch.arange(50)


def spec(data: Any, **options: Any) -> DataSpec:
    """Labelled data in batches of 8."""
    return DataSpec(**{"data": data, "batch_size": 8, "labelling": Labelling(), **options})


def numbers(batches: Any) -> list[int]:
    """Which samples these are: each row holds its own number, and its label is that too."""
    found: list[int] = []
    for batch in batches:
        assert torch.equal(batch.args[0][:, 0].long(), batch.labels)
        found += batch.labels.tolist()
    return found


def epoch(samples: Samples, data: DataSpec, seed: int) -> list[int]:
    """The samples of the first epoch."""
    stream = iter(samples.stream(data, PROGRAM, seed))
    return numbers(next(stream) for _ in range(samples.epoch))


class Numbered(Dataset[tuple[Tensor, Tensor]]):
    """A map-style dataset."""

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return ROWS[index], LABELS[index]


@pytest.mark.parametrize("data", [{"x": ROWS, "y": LABELS}, Numbered(), TensorDataset(ROWS, LABELS)])
def test_a_fifth_is_held_out_and_the_rest_comes_once_an_epoch_in_an_order_by_the_seed(data: Any) -> None:
    wanted = spec(data)
    samples = open_samples(wanted, None, PROGRAM)
    held = numbers(samples.val)
    assert len(held) == samples.data.val_samples == 10
    assert samples.data.held_out
    first, same, other = (epoch(samples, wanted, seed) for seed in (1, 1, 2))
    assert sorted(first + held) == list(range(50))
    assert first == same
    assert first != other
    assert first != sorted(first)


def test_files_are_read_as_arrays_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=ROWS.numpy(), y=LABELS.numpy())
    wanted = spec(str(tmp_path / "train.npz"))
    assert sorted(epoch(open_samples(wanted, wanted, PROGRAM), wanted, 0)) == list(range(50))


def test_a_loaders_own_order_is_the_same_for_each_run_of_a_seed_whatever_the_model_draws() -> None:
    wanted = spec(DataLoader(TensorDataset(ROWS, LABELS), batch_size=8, shuffle=True))
    samples = open_samples(wanted, spec({"x": ROWS, "y": LABELS}), PROGRAM)
    assert samples.epoch == 7
    found = []
    for draws in (0, 5):
        stream = iter(samples.stream(wanted, PROGRAM, 3))
        found.append([])
        for _ in range(14):
            found[-1] += next(stream).labels.tolist()
            torch.rand(draws)  # as dropout would
    assert found[0] == found[1]
    assert sorted(found[0][:50]) == sorted(found[0][50:]) == list(range(50))
    assert found[0][:50] != found[0][50:]


def test_a_last_sample_alone_is_left_out_for_the_batch_norms() -> None:
    wanted = spec({"x": ROWS[:17], "y": LABELS[:17]})
    samples = open_samples(wanted, wanted, PROGRAM)
    assert (samples.epoch, len(epoch(samples, wanted, 0))) == (2, 16)


def test_samples_on_another_axis_are_taken_along_it() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(3, 4, nonlinearity="relu")

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0][-1]

    x = ROWS.expand(7, 50, 3).contiguous()
    wanted = spec({"x": x, "y": LABELS}, batch_axis=1)
    program = EagerProgram(Recurrent())
    samples = open_samples(wanted, None, program)
    batch = next(iter(samples.stream(wanted, program, 0)))
    (taken,) = tensor_leaves((batch.args, batch.kwargs))
    assert taken.shape == (7, 8, 3)
    assert torch.equal(taken[0, :, 0].long(), batch.labels)


@pytest.mark.parametrize(
    ("data", "val", "says"),
    [
        (DataLoader(TensorDataset(ROWS, LABELS)), None, "nothing can be held out"),
        ({"x": ROWS}, None, "no labels"),
        ({"x": ROWS[:0], "y": LABELS[:0]}, None, "no samples|no rows|empty|0 "),
        ({"x": ROWS[:1], "y": LABELS[:1]}, None, "has 1 sample"),
    ],
)
def test_what_cannot_be_trained_on_is_said(data: Any, val: Any, says: str) -> None:
    with pytest.raises(DeadreluError, match=says) as caught:
        open_samples(spec(data), val, PROGRAM)
    assert caught.value.hint
