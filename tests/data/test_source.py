"""Data is opened whatever it is: a path, a spec, a live object."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from deadrelu.data.columns import choose_rows
from deadrelu.data.source import open_data
from deadrelu.data.spec import DataSpec
from deadrelu.errors import DataError

X = torch.arange(40, dtype=torch.float32).reshape(10, 4)
Y = torch.arange(10)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def rows(batches) -> torch.Tensor:
    """All that went in by position, or as `x`."""
    return torch.cat([batch.args[0] if batch.args else batch.kwargs["x"] for batch in batches])


LIVE = {
    "tensor": lambda: X,
    "array": lambda: X.numpy(),
    "doubles": lambda: X.double().numpy(),
    "tuple": lambda: (X, Y),
    "list": lambda: [X, Y],
    "dict": lambda: {"x": X, "y": Y},
    "dataset": lambda: TensorDataset(X, Y),
    "loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=3),
    "batches": lambda: [(X[:4], Y[:4]), (X[4:], Y[4:])],
    "tensor batches": lambda: [X[:5], X[5:]],
    "generator": lambda: (x for x in X.split(4)),
    "function": lambda: lambda: iter(X.split(4)),
    "function of a loader": lambda: lambda: DataLoader(TensorDataset(X, Y), batch_size=3),
}


@pytest.mark.parametrize("kind", LIVE)
def test_every_live_kind_gives_the_same_rows(linear, kind: str) -> None:
    batches = open_data(DataSpec(data=LIVE[kind](), batch_size=4), linear)
    assert torch.equal(rows(batches), X)
    assert (batches.info.kind, batches.info.samples, batches.info.seed) == ("dataset", 0, None)


@pytest.mark.parametrize("kind", sorted(set(LIVE) - {"generator"}))
def test_a_second_pass_starts_anew(linear, kind: str) -> None:
    batches = open_data(DataSpec(data=LIVE[kind](), batch_size=4), linear)
    assert torch.equal(rows(batches), rows(batches))


def test_an_iterator_says_that_it_is_used_up(linear) -> None:
    batches = open_data(DataSpec(data=iter(X.split(4))), linear)
    assert len(list(batches)) == 3
    with pytest.raises(DataError, match="used up"):
        list(batches)


@pytest.mark.parametrize("kind", LIVE)
@pytest.mark.parametrize("samples", [1, 5, 10, 99])
def test_exactly_the_first_samples_are_used(linear, kind: str, samples: int) -> None:
    batches = list(open_data(DataSpec(data=LIVE[kind](), batch_size=4, samples=samples), linear))
    assert torch.equal(rows(batches), X[:samples])
    assert sum(batch.samples for batch in batches) == min(samples, 10)


@pytest.mark.parametrize("name", ["x.npy", "d.npz", "t.pt", "d.pt", "d.safetensors"])
def test_every_file_kind_gives_the_same_rows(linear, name: str) -> None:
    {
        "x.npy": lambda: np.save(name, X.numpy()),
        "d.npz": lambda: np.savez(name, x=X.numpy(), y=Y.numpy()),
        "t.pt": lambda: torch.save(X, name),
        "d.pt": lambda: torch.save({"x": X, "labels": Y}, name),
        "d.safetensors": lambda: save_file({"pixels": X, "target": Y}, name),
    }[name]()
    batches = open_data(DataSpec(data=name, batch_size=4, samples=9), linear)
    assert [batch.samples for batch in batches] == [4, 4, 1]
    assert torch.equal(rows(batches), X[:9])
    assert batches.info.source == name


def test_arrays_called_like_parameters_go_in_by_keyword(masked, caplog) -> None:
    caplog.set_level(logging.INFO, "deadrelu")
    np.savez("d.npz", x=X.numpy(), mask=np.ones((10, 2), bool), labels=Y.numpy())
    (batch,) = open_data(DataSpec(data="d.npz"), masked)
    assert sorted(batch.kwargs) == ["mask", "x"]
    assert batch.kwargs["mask"].dtype == torch.bool
    assert [record.message for record in caplog.records] == [
        "x, mask of the data go into the model; labels is left out"
    ]


def test_an_unclear_file_lists_its_arrays_and_the_key_settles_it(linear) -> None:
    np.savez("d.npz", a=X.numpy(), b=X.numpy()[:, :2])
    with pytest.raises(DataError, match=r"a \(10, 4\), b \(10, 2\)"):
        open_data(DataSpec(data="d.npz"), linear)
    assert torch.equal(rows(open_data(DataSpec(data="d.npz", data_key="a"), linear)), X)


def test_different_lengths_are_refused_with_the_shapes(pair) -> None:
    with pytest.raises(DataError, match=r"do not have the same number of samples: 0 \(10, 4\), 1 \(9, 4\)"):
        open_data(DataSpec(data=(X, X[:9])), pair)


def test_a_single_number_is_no_data(linear) -> None:
    with pytest.raises(DataError, match="a single number"):
        open_data(DataSpec(data=torch.tensor(1.0)), linear)


@pytest.mark.parametrize("kind", ["tensor", "dataset"])
def test_a_seed_draws_a_random_subset_that_is_the_same_each_time(linear, kind: str) -> None:
    def draw(seed: int) -> list[float]:
        return rows(open_data(DataSpec(data=LIVE[kind](), samples=5, seed=seed), linear))[:, 0].tolist()

    assert draw(1) == draw(1)
    assert len({tuple(draw(seed)) for seed in range(5)}) > 1
    assert all(sorted(set(draw(seed))) == draw(seed) for seed in range(5))


@given(st.integers(0, 50), st.none() | st.integers(1, 60), st.none() | st.integers(0, 9))
def test_drawn_rows_are_distinct_and_in_range(total: int, samples: int | None, seed: int | None) -> None:
    drawn = list(choose_rows(total, DataSpec(samples=samples, seed=seed)))
    assert drawn == sorted(set(drawn))
    assert len(drawn) == (total if samples is None else min(samples, total))
    assert all(0 <= row < total for row in drawn)


@pytest.mark.parametrize("data", [X[:0], X[:0].numpy(), [], {"x": X[:0]}, DataLoader([]), [X[:0], X[:0]]])
def test_no_data_gives_no_batch(linear, data: object) -> None:
    assert [batch.samples for batch in open_data(DataSpec(data=data), linear)] == []


def test_a_model_in_place_does_not_write_into_the_users_tensor(linear) -> None:
    data = X.clone()
    for batch in open_data(DataSpec(data=data), linear):
        batch.args[0].zero_()
    assert torch.equal(data, X)


@pytest.mark.parametrize("spec", ["d1.py:loader", "d1:loader", "d1.py:make", "d1.py:Set", "d1.py:path"])
def test_a_spec_gives_what_the_code_holds(linear, spec: str) -> None:
    np.save("x.npy", X.numpy())
    Path("d1.py").write_text(
        "import torch\n"
        "x = torch.arange(40.0).reshape(10, 4)\n"
        "loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=3)\n"
        "def make():\n    print('loading')\n    yield from x.split(3)\n"
        "class Set(torch.utils.data.Dataset):\n"
        "    def __len__(self):\n        return 10\n"
        "    def __getitem__(self, i):\n        return x[i]\n"
        "path = 'x.npy'\n"
    )
    batches = open_data(DataSpec(data=spec), linear)
    assert torch.equal(rows(batches), X)
    assert batches.info.source == spec


def test_the_file_and_the_object_that_were_meant_are_named(linear) -> None:
    Path("val.npz").touch()
    Path("d4.py").write_text("loader = 1\n")
    for data, meant in (("vla.npz", "val.npz"), ("d5.py:loader", "d4.py"), ("d4.py:lodaer", "d4.py:loader")):
        with pytest.raises(DataError) as caught:
            open_data(DataSpec(data=data), linear)
        assert caught.value.hint.startswith(f"did you mean {meant}?")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("gone.npz", "there is no data at gone.npz"),
        ("gone.py:x", "there is no file gone.py"),
        ("d2.py:nothing", "d2.py has no 'nothing'"),
        ("d2.py", "does not say which object"),
        ("d2.py:number", "gives a int"),
        ("d2.py:fails", r"d2.py:fails failed when it was called: .*d2.py, line 3: RuntimeError: no disk"),
        ("d2.py:needs", "failed when it was called: .*missing 1 required positional argument"),
        ("d2.py:net", "is a model, not data"),
        ("d2.py:rows", r"failed at batch 1: .*d2.py, line 7: ValueError: bad row"),
        ("d2.py:leaves", r"failed at batch 0: .*d2.py, line 9: it called sys.exit\(3\)"),
        ("d2.py:texts", "batch 0 of d2.py:texts holds no tensor of samples for the model, but str"),
    ],
)
def test_what_is_wrong_is_one_clear_error(linear, data: str, said: str) -> None:
    Path("d2.py").write_text(
        "import sys, torch\n"
        "number = 3\ndef fails(): raise RuntimeError('no disk')\ndef needs(a): pass\nnet = torch.nn.ReLU()\n"
        "def rows():\n    yield torch.ones(2, 4); raise ValueError('bad row')\n"
        "def leaves():\n    sys.exit(3); yield\ntexts = ['a', 'b']\n"
    )
    with pytest.raises(DataError, match=said) as caught:
        list(open_data(DataSpec(data=data), linear))
    assert caught.value.hint


@pytest.mark.parametrize("option", ["batch_size", "samples"])
def test_counts_below_one_are_refused(linear, option: str) -> None:
    with pytest.raises(DataError, match="at least 1"):
        open_data(DataSpec(data=X, **{option: 0}), linear)


def test_float_columns_stay_floats_where_only_a_later_part_looks_indices_up(program_of) -> None:
    program = program_of(nn.ModuleList([nn.Linear(4, 2), nn.Embedding(3, 2)]))
    (batch,) = open_data(DataSpec(data=(X,)), program)
    assert batch.args[0].dtype == torch.float32
