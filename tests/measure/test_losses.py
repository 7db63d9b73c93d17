"""Losses are torch's own, or the user's; what does not fit is refused in one line; accuracy is that of the classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deadrelu.errors import DataError, ModelError, UsageError
from deadrelu.measure.losses import LOSSES, Loss, read_loss

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
CLASSES = torch.tensor([0, 1, 2, 3, 0, 1])
TARGETS = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


def value_of(name: str, output, labels) -> float:
    loss = read_loss(name)
    assert loss is not None
    return loss.compute(output, labels)[0].item()


@pytest.mark.parametrize(
    ("name", "labels", "wanted"),
    [
        ("cross_entropy", CLASSES, lambda x: F.cross_entropy(x, CLASSES)),
        ("cross_entropy", CLASSES.int(), lambda x: F.cross_entropy(x, CLASSES)),
        ("cross_entropy", CLASSES.double(), lambda x: F.cross_entropy(x, CLASSES)),
        ("cross_entropy", CLASSES[:, None], lambda x: F.cross_entropy(x, CLASSES)),
        ("cross_entropy", TARGETS.softmax(1), lambda x: F.cross_entropy(x, TARGETS.softmax(1))),
        ("nll", CLASSES, lambda x: F.nll_loss(x, CLASSES)),
        ("mse", TARGETS.double(), lambda x: F.mse_loss(x, TARGETS)),
        ("l1", TARGETS, lambda x: F.l1_loss(x, TARGETS)),
        ("bce_with_logits", (TARGETS > 0).long(), lambda x: F.binary_cross_entropy_with_logits(x, (TARGETS > 0) * 1.0)),
    ],
)
def test_a_named_loss_is_that_of_torch(name: str, labels, wanted) -> None:
    assert value_of(name, X, labels) == wanted(X).item()


def test_no_label_is_broadcast_over_the_batch() -> None:
    """Torch would make 36 differences of these, and only warn."""
    column, row = X[:, :1], TARGETS[:, 0]
    wanted = F.mse_loss(column[:, 0], row).item()
    assert value_of("mse", column, row) == wanted
    assert value_of("mse", column[:, 0], row[:, None]) == wanted
    with pytest.raises(DataError, match=r"labels \(6,\) do not fit the output \(6, 4\) for mse"):
        value_of("mse", X, row)


def test_classes_may_come_last() -> None:
    output = torch.randn(2, 5, 3, requires_grad=True)
    labels = torch.randint(0, 3, (2, 5))
    assert value_of("cross_entropy", output, labels) == F.cross_entropy(output.movedim(-1, 1), labels).item()
    image = torch.randn(2, 3, 4, 4, requires_grad=True)
    assert value_of("cross_entropy", image, labels[:, :4, None].expand(2, 4, 4)) > 0


@dataclass
class Answer:
    logits: torch.Tensor
    extra: torch.Tensor


@pytest.mark.parametrize(
    "output",
    [(X,), [X, X.detach()], {"logits": X, "b": 2 * X}, {"z": X}, Answer(X, X), SimpleNamespace(out=X)],
    ids=["tuple", "list", "dict", "lone", "dataclass", "object"],
)
def test_the_tensor_of_a_nested_output_is_found(output) -> None:
    assert value_of("cross_entropy", output, CLASSES) == F.cross_entropy(X, CLASSES).item()


def test_an_output_that_is_not_clear_is_refused() -> None:
    with pytest.raises(ModelError, match="a dict of 2 tensors: mse cannot tell which"):
        value_of("mse", {"a": X, "b": X}, TARGETS)


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("cross_entropy", CLASSES + 2, "labels are 2 to 5, of 4 classes counted from 0"),
        ("cross_entropy", CLASSES[:4], "one label a sample"),
        ("cross_entropy", CLASSES + 0.5, "classes must be whole numbers"),
        ("cross_entropy", [1, 2], "needs labels in one tensor, not a list"),
        ("l1", TARGETS[:, :2], "it compares tensors of one shape"),
    ],
)
def test_labels_that_do_not_fit_are_refused(name: str, labels, message: str) -> None:
    with pytest.raises(DataError, match=message):
        value_of(name, X, labels)


def test_ignored_labels_are_no_predictions() -> None:
    labels = torch.tensor([0, 1, -100, 3, -100, 1])
    _, (right, predictions) = Loss("cross_entropy", LOSSES["cross_entropy"]).compute(X, labels)
    known = labels >= 0
    assert (right, predictions) == (int((X.argmax(1) == labels)[known].sum()), 4)


def test_accuracy_counts_classes_of_positions_and_of_binary_labels() -> None:
    image = torch.randn(2, 3, 4, 4, requires_grad=True)
    labels = torch.randint(0, 3, (2, 4, 4))
    counted = read_loss("cross_entropy").compute(image, labels)[1]
    assert counted == (int((image.argmax(1) == labels).sum()), 32)
    binary = TARGETS > 0
    counted = read_loss("bce_with_logits").compute(X, binary)[1]
    assert counted == (int(((X > 0) == binary).sum()), 24)


def test_regression_has_no_accuracy() -> None:
    assert read_loss("mse").compute(X, TARGETS)[1] == (0, 0)
    assert read_loss("bce_with_logits").compute(X, TARGETS.sigmoid())[1] == (0, 0)
    assert read_loss("cross_entropy").compute(X, TARGETS.softmax(1))[1] == (0, 0)


def test_a_loss_in_a_file_is_read_and_gets_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_losses.py").write_text(
        "import torch\n"
        "def focal(output, labels):\n"
        "    return output['z'].square().sum() + labels['w']\n"
        "class Twice(torch.nn.Module):\n"
        "    def forward(self, output, labels):\n"
        "        return 2 * torch.nn.functional.cross_entropy(output, labels)\n"
        "NUMBER = 3\n"
    )
    assert value_of("own_losses.py:focal", {"z": X}, {"w": 1}) == X.square().sum().item() + 1
    assert value_of("own_losses.py:Twice", X, CLASSES) == pytest.approx(2 * F.cross_entropy(X, CLASSES).item())
    with pytest.raises(UsageError, match="NUMBER is not a function of output and labels"):
        read_loss("own_losses.py:NUMBER")


def test_an_unknown_loss_is_refused_with_a_near_name() -> None:
    with pytest.raises(UsageError, match="there is no loss 'cross_entrop'") as caught:
        read_loss("cross_entrop")
    assert "cross_entropy" in caught.value.hint


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda z, _y: z.square(), r"returns a tensor of shape \(6, 4\), not one number"),
        (lambda _z, _y: 1.0, "returns float, not one number"),
        (lambda z, _y: z.detach().sum(), "has no gradient"),
        (lambda z, _y: z @ z, "raised on"),
    ],
)
def test_a_loss_that_cannot_be_differentiated_is_one_line(function, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read_loss("mine", function).compute(X, CLASSES)
    assert "\n" not in caught.value.message


def test_a_criterion_is_a_loss_too() -> None:
    value, counted = read_loss("CrossEntropyLoss", nn.CrossEntropyLoss(label_smoothing=0.1)).compute(X, CLASSES)
    assert value.item() == F.cross_entropy(X, CLASSES, label_smoothing=0.1).item()
    assert counted[1] == 6
