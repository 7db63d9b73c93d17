"""Nests are walked and changed without losing their classes."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from deadrelu.programs.pytree import map_tensors, tensor_leaves, to_device

X, Y = torch.zeros(2), torch.ones(3)
Pair = namedtuple("Pair", "x y")


@dataclass(frozen=True)
class Frozen:
    x: Tensor
    y: Tensor
    name: str = "a"
    made: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.made.append(1)


class Refusing(UserDict[str, Tensor]):
    """A mapping of its own class with something beside its items."""

    note = "kept"


NESTS = [
    {"x": X, "y": Y},
    OrderedDict(x=X, y=Y),
    Refusing(x=X, y=Y),
    (X, Y),
    [X, Y],
    Pair(X, Y),
    Frozen(X, Y),
    {"a": [X, (Y, None)]},
]


@pytest.mark.parametrize("nest", NESTS, ids=lambda nest: type(nest).__name__)
def test_every_tensor_is_changed_and_the_class_stays(nest: object) -> None:
    changed = map_tensors(nest, lambda x: x + 1)
    assert type(changed) is type(nest)
    assert [x.tolist() for x in tensor_leaves(changed)] == [[1, 1], [2, 2, 2]]
    assert [x.tolist() for x in tensor_leaves(nest)] == [[0, 0], [1, 1, 1]]


def test_a_dataclass_is_not_made_anew() -> None:
    assert map_tensors(Frozen(X, Y), lambda x: x).made == [1]


def test_what_moves_itself_is_asked_to_and_a_module_is_not() -> None:
    class Graph:
        def to(self, device: torch.device) -> str:
            return f"on {device}"

    layer = nn.Linear(1, 1)
    assert to_device([Graph(), layer, Graph, X], torch.device("cpu")) == ["on cpu", layer, Graph, X]


def test_packed_sequences_move_whole() -> None:
    packed = nn.utils.rnn.pack_sequence([X, X[:1]])
    assert type(to_device(packed, torch.device("cpu"))) is nn.utils.rnn.PackedSequence
