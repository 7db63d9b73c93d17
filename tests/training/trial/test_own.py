"""Training by the user's own function: what it may give, and what it may not do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deadrelu
from deadrelu.errors import DeadreluError
from tests.training.conftest import digits, sick_model

X, Y = digits(slice(0, 600))
VAL = [(x, y) for x, y in zip(*digits(slice(600, 900)), strict=True)]


def some_steps(model: nn.Module, _seed: int, steps: int = 30) -> Iterator[float]:
    """Full batches, and the loss of each."""
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(steps):
        loss = F.cross_entropy(model(X), Y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield float(loss.detach())


def asked(trainer: Any, **options: Any) -> Any:
    """A trial of the sick model by this function."""
    return deadrelu.trial(sick_model(), None, VAL, **{"arms": "keep", "seeds": 1, "trainer": trainer, **options})


def test_it_trains_as_the_function_alone_would() -> None:
    losses: list[float] = []

    def train(model: nn.Module, seed: int) -> Iterator[dict[str, float]]:
        for step, loss in enumerate(some_steps(model, seed), 1):
            losses.append(loss)
            if step in (10, 20):
                yield {"step": step, "train_loss": loss, "rate": 0.5}

    run = asked(train).arms[0].runs[0]
    by_hand = sick_model()
    assert list(some_steps(by_hand, 0)) == losses
    x, y = digits(slice(600, 900))
    with torch.no_grad():
        right = (by_hand(x).argmax(1) == y).double().mean()
        dead = 1 - (torch.relu(by_hand[0](x)) > 0).any(0).double().mean()
    assert run.metric == pytest.approx(float(right))
    assert run.dead_fraction == pytest.approx(float(dead))
    assert [point.step for point in run.curve] == [0, 10, 20, 20]  # it went on after the last that it yielded
    assert [point.train_loss for point in run.curve] == [None, losses[9], losses[19], None]
    assert (run.train_metric, run.gap) == (None, None)


@pytest.mark.parametrize("kind", ["returns a number", "returns metrics", "yields a tensor", "returns a generator"])
def test_what_it_may_give(kind: str) -> None:
    def train(model: nn.Module, seed: int) -> Any:
        losses = list(some_steps(model, seed))
        return {"returns a number": losses[-1], "returns metrics": {"loss": losses[-1], "accuracy": 0.9}}.get(
            kind, iter([torch.tensor(losses[-1])])
        )

    def yields(model: nn.Module, seed: int) -> Iterator[torch.Tensor]:
        yield torch.tensor(list(some_steps(model, seed))[-1])

    run = asked(yields if kind.startswith("yields") else train).arms[0].runs[0]
    assert run.failed is None
    assert run.metric is not None
    assert run.metric > 0.5
    assert run.curve[1].train_loss is not None


def raises(*_: Any) -> float:
    raise RuntimeError("out of ideas")


def raises_later(model: nn.Module, seed: int) -> Iterator[float]:
    yield from some_steps(model, seed, 3)
    raise RuntimeError("out of ideas")


def exits(*_: Any) -> None:
    raise SystemExit(3)


def nothing(model: nn.Module, seed: int) -> None:
    list(some_steps(model, seed))


def yields_nothing(*_: Any) -> Iterator[float]:
    yield from ()


def text(*_: Any) -> str:
    return "done"


def a_copy(_: nn.Module, seed: int) -> float:
    return list(some_steps(sick_model(), seed))[-1]


def wants_more(_model: nn.Module, _seed: int, _config: dict[str, float]) -> float:
    return 0.0


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        (raises, "RuntimeError: out of ideas"),
        (raises_later, "RuntimeError: out of ideas"),
        (exits, "it called sys.exit(3)"),
        (nothing, "nothing gives no metrics"),
        (yields_nothing, "yields_nothing gives no metrics"),
        (text, "text gives a str, and not a number or a mapping of numbers"),
        (a_copy, "a_copy left the model as it was, as if it had trained a copy"),
        (wants_more, "missing 1 required positional argument: '_config'"),
    ],
)
def test_what_it_may_not_do(trainer: Any, said: str) -> None:
    model = sick_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(DeadreluError, match="no run of keep has a result") as caught:
        deadrelu.trial(model, None, VAL, arms="keep", seeds=2, trainer=trainer)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_loss_that_is_not_finite_ends_the_run_and_counts() -> None:
    def train(model: nn.Module, seed: int) -> Iterator[float]:
        yield from some_steps(model, seed, 4)
        yield math.nan
        raise AssertionError("asked for more after it diverged")

    run = asked(train).arms[0].runs[0]
    assert (run.diverged, run.failed) == (5, None)


def test_the_same_seed_draws_the_same() -> None:
    drawn: list[tuple[int, float]] = []

    def train(model: nn.Module, seed: int) -> float:
        drawn.append((seed, float(torch.rand(()))))
        return list(some_steps(model, seed))[-1]

    found = asked(train, arms="keep,same=keep,reinit", seeds=2)
    assert len(set(drawn)) == 2
    assert len(drawn) == 6
    keep, same = found.arm("keep"), found.arm("same")
    assert [run.metric for run in keep.runs] == [run.metric for run in same.runs]
    assert [run.curve[-1].loss for run in keep.runs] == [run.curve[-1].loss for run in same.runs]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trainer": raises, "lr": 0.1}, "--lr has no effect: your function decides that"),
        ({"trainer": raises, "epochs": 3}, "--epochs has no effect"),
        ({"trainer": raises, "arms": "keep,clip:1.0"}, "the arm clip:1.0 changes the training"),
        ({"trainer": "nowhere.py:fn"}, "nowhere.py"),
        ({"trainer": None}, "a trial needs labelled data"),
    ],
)
def test_a_question_that_cannot_be_asked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DeadreluError) as caught:
        asked(**options)
    assert said in caught.value.message


def test_it_needs_validation_data() -> None:
    with pytest.raises(DeadreluError, match="needs validation data") as caught:
        deadrelu.trial(sick_model(), (X, Y), trainer=raises)
    assert caught.value.hint == "give --val FILE"


def test_what_it_prints_goes_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.py").write_text(
        "import torch\n"
        "def fn(model, seed):\n"
        "    print('step by step')\n"
        "    with torch.no_grad():\n"
        "        model[0].weight.mul_(0.5)\n"
        "    yield {'loss': 1.0}\n"
        "def text(model): ...\n"
        "number = 3\n"
    )
    assert asked(f"{tmp_path / 'train.py'}:fn").arms[0].runs[0].steps == 1
    out, err = capfd.readouterr()
    assert "step by step" in err
    assert "step by step" not in out
    with pytest.raises(DeadreluError, match="number is not a function"):
        asked(f"{tmp_path / 'train.py'}:number")
