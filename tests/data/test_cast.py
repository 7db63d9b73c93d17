"""Arrays become tensors of the type that the model takes."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from deadrelu.data.batches import Notes
from deadrelu.data.cast import Caster, Reading, as_tensor, fallback, readings
from deadrelu.errors import DataError

CAST = Reading.FIRST_CAST
"""What a file is read by where the model refuses integers."""


class Words(nn.Module):
    """Looks indices up."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)

    def forward(self, x):
        return self.table(x)


@pytest.mark.parametrize(
    ("given", "floats", "indices"),
    [
        (torch.float64, torch.float32, torch.float32),
        (torch.float16, torch.float32, torch.float32),
        (torch.int32, torch.float32, torch.float32),
        (torch.int64, torch.float32, torch.float32),
        (torch.bool, torch.float32, torch.bool),
    ],
)
def test_the_first_input_takes_the_models_type(linear, program_of, given, floats, indices) -> None:
    value = torch.ones(2, 4).to(given)
    assert Caster(linear, Notes()).cast(value, "x", CAST, first=True).dtype == floats
    assert Caster(program_of(Words()), Notes()).cast(value, "x", CAST, first=True).dtype == indices


def test_indices_stay_integers(program_of) -> None:
    program = program_of(Words())
    (way,) = readings(program, from_file=True)
    assert Caster(program, Notes()).cast(torch.ones(2, 4).int(), "x", way, first=True).dtype == torch.int64


def test_a_file_is_tried_with_its_integers_first_and_the_users_own_as_they_are(linear) -> None:
    ways = readings(linear, from_file=True)
    edges = torch.ones(2, 7, dtype=torch.int64)

    def types(way: Reading) -> list[torch.dtype]:
        return [Caster(linear, Notes()).cast(edges, "x", way, first=first).dtype for first in (True, False)]

    assert [types(way) for way in ways] == [
        [torch.int64, torch.int64],
        [torch.float32, torch.int64],
        [torch.float32, torch.float32],
    ]
    assert fallback(ways) is Reading.FIRST_CAST
    assert readings(linear, from_file=False) == (Reading.AS_GIVEN, Reading.FLOATS_CAST)


def test_nothing_of_the_users_own_changes_its_type(linear) -> None:
    caster = Caster(linear, Notes())
    for dtype in (torch.float64, torch.uint8, torch.int32, torch.bool, torch.complex64):
        assert caster.cast(torch.ones(1, 3, 2, 2).to(dtype), "x", Reading.AS_GIVEN, first=True).dtype == dtype
    assert caster.cast(torch.ones(2).long(), "x", Reading.FLOATS_CAST, first=True).dtype == torch.int64
    assert caster.cast(torch.ones(2).half(), "x", Reading.FLOATS_CAST, first=True).dtype == torch.float32


def test_complex_numbers_keep_their_kind_at_the_models_precision(linear) -> None:
    array = np.array([1 + 2j])
    assert as_tensor(array, "x").tolist() == [1 + 2j]
    assert Caster(linear, Notes()).cast(array, "x", CAST, first=True).dtype == torch.complex64


def test_a_double_model_gets_doubles(program_of) -> None:
    assert Caster(program_of(nn.Linear(4, 2).double()), Notes()).cast(
        torch.ones(1, 4), "x", CAST, first=True
    ).dtype == (torch.float64)


def test_later_masks_and_lengths_stay_what_they_are(linear) -> None:
    caster = Caster(linear, Notes())
    assert caster.cast(torch.ones(3, 4, dtype=torch.bool), "mask", CAST, first=False).dtype == torch.bool
    assert caster.cast(torch.ones(3, dtype=torch.int64), "lengths", CAST, first=False).dtype == torch.int64
    assert caster.cast(torch.ones(3, 4, dtype=torch.int64), "features", CAST, first=False).dtype == torch.int64


def test_images_of_bytes_are_cast_unscaled_and_it_is_said_once(linear, program_of, caplog) -> None:
    caplog.set_level(logging.INFO, "deadrelu")
    image = np.full((1, 3, 2, 2), 200, np.uint8)
    for program in (linear, program_of(Words())):
        caster = Caster(program, Notes())
        for _ in range(2):
            assert torch.equal(caster.cast(image, "x", CAST, first=True), torch.full((1, 3, 2, 2), 200.0))
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert all("from uint8 to float32" in text and "not scaled" in text for text in said)


def test_values_in_lists_and_dicts_are_cast_too(linear) -> None:
    cast = Caster(linear, Notes()).cast({"a": [np.ones(2), None], "flag": True}, "x", CAST, first=True)
    assert cast["a"][0].dtype == torch.float32
    assert cast["a"][1] is None
    assert cast["flag"] is True


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">i2", "u2", "u4", "f2", "?"])
def test_every_number_type_of_numpy_keeps_its_values(dtype: str) -> None:
    array = np.array([0, 1, 1, 0], dtype=dtype)
    assert as_tensor(array, "x").tolist() == array.tolist()


def test_a_tensor_made_from_an_array_does_not_write_into_it() -> None:
    array = np.ones(3, np.float32)
    as_tensor(array, "x").zero_()
    assert array.sum() == 3


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array(["a"]), "text"),
        (np.array([None]), "Python objects"),
        (np.array(["2020-01-01"], "M8[D]"), "dates"),
        (np.zeros(2, [("a", "f4")]), "records"),
    ],
)
def test_what_is_no_number_is_refused(array: object, said: str) -> None:
    with pytest.raises(DataError, match=f"x holds {said}"):
        as_tensor(array, "x")
