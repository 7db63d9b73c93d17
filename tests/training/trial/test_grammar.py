"""The words of arms: what they mean, and what is said of those that cannot be read."""

from __future__ import annotations

import pytest

from deadrelu.errors import UsageError
from deadrelu.training.trial.grammar import new_activation, parse_arms
from deadrelu.training.trial.recipe import Recipe
from deadrelu.training.trial.result import patch_options

EVERY = (
    "keep,leaky_relu:0.01,leaky_relu:0.1,prelu,elu,gelu,silu,sigmoid,tanh,reinit,leaky_relu:0.01+reinit,init:he,"
    "init:xavier,bias:0.1,norm,dropout:0.2,weight_decay:1e-4,lr:0.1x,clip:auto"
)


def test_every_word_of_the_grammar_is_read_and_written_back() -> None:
    assert ",".join(arm.recipe for arm in parse_arms([EVERY])) == EVERY


def test_keep_is_the_first_arm_whether_it_was_asked_for_or_not() -> None:
    assert [arm.name for arm in parse_arms(["gelu,reinit"])] == ["keep", "gelu", "reinit"]
    assert [arm.name for arm in parse_arms(["gelu", "keep", "again=keep"])] == ["keep", "gelu", "again"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("keep,keep", "two arms are called keep", "again=keep"),
        ("leaky:0.1", "'leaky:0.1', which is not known", "did you mean 'leaky_relu'"),
        ("elu+gelu", "has both elu and gelu", "leave one"),
        ("gelu:2", "gelu takes no number", "write gelu"),
        ("dropout:1.5", "not above 0 and below 1", "dropout:0.2"),
        ("dropout", "cannot be read", "dropout:0.2"),
        ("lr:fast", "cannot be read", "lr:0.1x"),
        ("lr:-1", "not a positive number", "lr:0.1x"),
        ("init:best", "he and xavier", "init:he"),
        ("leaky_relu:2", "not above 0 and below 1", "leaky_relu:0.01"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_to_write(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_arms([text])
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_an_arm_changes_the_training_that_all_share_only_for_itself() -> None:
    recipe = Recipe(lr=0.01, weight_decay=0.5, clip=3.0)
    _, slow, fixed, decay = parse_arms(["lr:0.1x,lr:0.2,weight_decay:1e-4+clip:auto"])
    assert recipe.of(slow).lr == pytest.approx(0.001)
    assert recipe.of(fixed).lr == 0.2
    assert (recipe.of(decay).weight_decay, recipe.of(decay).clip, recipe.of(decay).lr) == (1e-4, "auto", 0.01)
    assert (recipe.lr, recipe.weight_decay, recipe.clip) == (0.01, 0.5, 3.0)


@pytest.mark.parametrize(
    ("arm", "options"),
    [
        ("reinit", ("--with=keep", "--reinit")),
        ("leaky_relu:0.1+reinit", ("--site=all", "--with=leaky_relu", "--slope=0.1", "--reinit")),
        ("gelu", ("--site=all", "--with=gelu")),
        ("sigmoid", None),
        ("lr:0.1x", None),
        ("reinit+bias:0.1", None),
        ("keep", None),
    ],
)
def test_patch_gets_the_options_that_make_the_arm_or_none(arm: str, options: tuple[str, ...] | None) -> None:
    assert patch_options(parse_arms([arm])[-1]) == options


def test_the_activation_is_the_word_before_its_number() -> None:
    assert [new_activation(arm) for arm in parse_arms(["prelu:0.1,reinit"])] == [None, "prelu", None]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": 0.0}, "--lr is 0"),
        ({"optimizer": "rmsprop"}, "no optimizer"),
        ({"schedule": "linear"}, "no schedule"),
        ({"clip": -1.0}, "--clip is -1"),
        ({"steps": 3, "epochs": 3}, "--steps and --epochs"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"weight_decay": -0.1}, "--weight-decay"),
    ],
)
def test_a_training_that_cannot_be_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_epochs_become_steps() -> None:
    assert Recipe(epochs=3).lasting(7).steps == 21
    assert Recipe().lasting(7).steps == 70
    assert Recipe(steps=5).lasting(7).steps == 5
