"""What a loader yields is fitted to the model."""

from __future__ import annotations

import itertools
from collections import UserDict, namedtuple

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec
from deadrelu.errors import DataError

X = torch.arange(24, dtype=torch.float32).reshape(6, 4)
Y = torch.arange(6)


def test_a_mapping_of_any_class_gives_keywords(masked) -> None:
    (batch,) = open_data(DataSpec(data=[UserDict(x=X, mask=Y.bool(), labels=Y, ids=Y)]), masked)
    assert sorted(batch.kwargs) == ["mask", "x"]
    assert batch.samples == 6


def test_a_mapping_of_image_and_label_gives_the_image(linear) -> None:
    (batch,) = open_data(DataSpec(data=[{"image": X, "label": Y}]), linear)
    assert torch.equal(batch.args[0], X)


def test_a_pair_of_a_mapping_and_labels_gives_the_mapping(masked) -> None:
    (batch,) = open_data(DataSpec(data=[({"x": X}, Y)]), masked)
    assert torch.equal(batch.kwargs["x"], X)


@pytest.mark.parametrize("raw", [(X, X, Y), [X, X, Y], ((X, X), Y), ([X, X], Y)])
def test_a_model_of_two_inputs_gets_two(pair, raw: object) -> None:
    (batch,) = open_data(DataSpec(data=[raw]), pair)
    assert len(batch.args) == 2
    assert all(torch.equal(arg, X) for arg in batch.args)


def test_a_named_tuple_goes_by_position(linear) -> None:
    Row = namedtuple("Row", "x y")
    (batch,) = open_data(DataSpec(data=[Row(X, Y)]), linear)
    assert torch.equal(batch.args[0], X)


def test_the_key_chooses_within_a_batch(linear) -> None:
    (batch,) = open_data(DataSpec(data=[{"a": X, "b": X + 1}], data_key="b"), linear)
    assert torch.equal(batch.args[0], X + 1)


def test_an_endless_loader_stops_at_the_samples(masked) -> None:
    endless = ({"x": X, "mask": Y.bool()} for _ in itertools.count())
    batches = list(open_data(DataSpec(data=endless, samples=15), masked))
    assert [batch.samples for batch in batches] == [6, 6, 3]
    assert len(batches[-1].kwargs["mask"]) == 3


def test_nothing_is_asked_of_the_loader_beyond_the_samples(linear) -> None:
    def two() -> object:
        yield X
        raise AssertionError("asked for one batch too many")

    assert len(list(open_data(DataSpec(data=two, samples=6), linear))) == 1


def test_an_iterable_dataset_is_batched(linear) -> None:
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(X)

    assert [batch.samples for batch in open_data(DataSpec(data=Stream(), batch_size=4), linear)] == [4, 2]


def test_a_seed_fixes_the_order_of_a_loader_that_shuffles(linear) -> None:
    batches = open_data(DataSpec(data=DataLoader(X, batch_size=6, shuffle=True), seed=3), linear)
    first, second = (next(iter(batches)).args[0] for _ in range(2))
    assert torch.equal(first, second)


def test_batches_of_no_samples_are_passed_over(linear) -> None:
    assert [batch.samples for batch in open_data(DataSpec(data=iter([X[:0], X, X[:0]])), linear)] == [6]


@pytest.mark.parametrize("raw", [{}, {"name": "a"}, (), torch.tensor(3.0), None])
def test_a_batch_without_samples_to_run_is_an_error(linear, raw: object) -> None:
    with pytest.raises(DataError) as caught:
        list(open_data(DataSpec(data=lambda: iter([raw])), linear))
    assert caught.value.hint


def test_ctrl_c_in_the_loader_passes(linear) -> None:
    def stop() -> object:
        yield X
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(open_data(DataSpec(data=stop), linear))


def test_an_error_of_who_runs_the_batches_is_not_blamed_on_the_loader(linear) -> None:
    batches = iter(open_data(DataSpec(data=[X, X]), linear))
    next(batches)
    with pytest.raises(ZeroDivisionError):
        batches.throw(ZeroDivisionError())
