"""Which arrays go into the model."""

from __future__ import annotations

import importlib
import linecache
import sys

import pytest
from torch import nn

from deadrelu.data.choose import Choice, choose_by_name, choose_by_position
from deadrelu.data.signature import signature_of
from deadrelu.errors import DataError


def by_name(names, program, key=None):
    return choose_by_name(names, signature_of(program), key, lambda: "these")


def test_names_of_parameters_become_keywords_and_the_rest_is_left_out(masked) -> None:
    assert by_name(["mask", "x", "ids"], masked) == Choice(kwargs={"mask": "mask", "x": "x"}, dropped=("ids",))


def test_labels_are_left_out_though_the_model_would_take_them(masked) -> None:
    assert by_name(["x", "labels"], masked) == Choice(kwargs={"x": "x"}, dropped=("labels",))


def test_an_input_that_is_called_y_goes_in_where_the_model_requires_it(program_of) -> None:
    class Model(nn.Module):
        def forward(self, x, y):
            return x + y

    assert by_name(["x", "y"], program_of(Model())) == Choice(kwargs={"x": "x", "y": "y"})


@pytest.mark.parametrize("label", ["y", "label", "labels", "target", "targets", "y_train", "Y_test"])
def test_the_only_array_that_is_not_labels_goes_in(linear, label: str) -> None:
    assert by_name([label, "pixels"], linear) == Choice(args=("pixels",), dropped=(label,))


def test_a_single_array_goes_in_whatever_it_is_called(linear) -> None:
    assert by_name(["y"], linear) == Choice(args=("y",))


@pytest.mark.parametrize("names", [["a", "b"], ["x_train", "x_test", "y_train"], ["y", "target"]])
def test_what_is_not_clear_is_asked(linear, names: list[str]) -> None:
    with pytest.raises(DataError, match="the model takes input, and the data has these") as caught:
        by_name(names, linear)
    assert "--data-key NAME" in caught.value.hint


def test_a_required_input_that_is_missing_is_asked_for(pair) -> None:
    with pytest.raises(DataError, match="the model takes left, right"):
        by_name(["left", "other"], pair)


def test_the_key_chooses_in_the_order_given(linear, masked) -> None:
    assert by_name(["a", "b", "c"], linear, "c, a") == Choice(args=("c", "a"), dropped=("b",))
    assert by_name(["x", "mask", "c"], masked, "x,mask") == Choice(kwargs={"x": "x", "mask": "mask"}, dropped=("c",))
    assert choose_by_position(3, signature_of(linear), "1") == Choice(args=("1",), dropped=("0", "2"))


@pytest.mark.parametrize("key", ["z", "a,z", ","])
def test_a_key_that_names_nothing_is_an_error(linear, key: str) -> None:
    with pytest.raises(DataError, match=r"--data-key .*: the data has no"):
        by_name(["a", "b"], linear, key)


def test_a_mistyped_key_names_the_one_that_was_meant(linear) -> None:
    with pytest.raises(DataError) as caught:
        by_name(["image", "label"], linear, "imgae")
    assert caught.value.hint == "did you mean --data-key image?"


def test_by_position_the_model_gets_as_many_as_it_requires(linear, masked, pair) -> None:
    assert choose_by_position(2, signature_of(linear), None) == Choice(args=("0",), dropped=("1",))
    assert choose_by_position(2, signature_of(masked), None) == Choice(args=("0",), dropped=("1",))
    assert choose_by_position(3, signature_of(pair), None) == Choice(args=("0", "1"), dropped=("2",))


def test_required_names_leave_defaults_out(masked, pair) -> None:
    assert signature_of(masked).required == ("x",)
    assert signature_of(pair).required == ("left", "right")


class Named(nn.Module):
    """Takes its input by keyword alone."""

    def forward(self, *, x):
        return x


class Rate(nn.Module):
    """Takes a number before its input."""

    def forward(self, rate, x):
        return rate * x


def test_an_input_that_cannot_go_by_position_goes_by_its_name(program_of) -> None:
    assert choose_by_position(2, signature_of(program_of(Named())), None) == Choice(kwargs={"x": "0"}, dropped=("1",))
    assert by_name(["pixels", "y"], program_of(Named())) == Choice(kwargs={"x": "pixels"}, dropped=("y",))


def test_what_the_user_gives_by_name_is_not_asked_of_the_data(program_of) -> None:
    signature = signature_of(program_of(Rate()), {"rate": 2})
    assert choose_by_position(2, signature, None) == Choice(kwargs={"x": "0"}, dropped=("1",))


@pytest.mark.parametrize(
    ("body", "fields", "unpacked", "spread", "takes_list"),
    [
        ("return b.x + b['edge'] + b.get('w')", {"x", "edge", "get", "w"}, 0, False, False),
        ("x, y = b\n        return x", set(), 2, False, False),
        ("return self.net(**b)", set(), 0, True, False),
        ("return [self.net(image) for image in b]", set(), 0, False, True),
        ("return {i: x for i, x in enumerate(b)}", set(), 0, False, True),
        ("return b + 1", set(), 0, False, False),
    ],
)
def test_the_source_of_forward_says_how_it_reads_its_input(
    tmp_path, monkeypatch, program_of, body, fields, unpacked, spread, takes_list
) -> None:
    (tmp_path / "read_by.py").write_text(
        f"import torch\nclass Net(torch.nn.Module):\n    def forward(self, b):\n        {body}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "read_by", raising=False)
    linecache.clearcache()
    found = signature_of(program_of(importlib.import_module("read_by").Net()))
    assert (found.fields, found.unpacked, found.spread, found.takes_list) == (fields, unpacked, spread, takes_list)
