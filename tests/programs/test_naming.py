"""A functional call is named by its producer, or the module that makes it where that says more; never as another."""

from __future__ import annotations

from deadrelu.programs.naming import Naming


def names(naming: Naming, *calls: tuple[str, int, str | None]) -> list[str]:
    """The names of the calls of one pass: module, number of the call, producer; a call 0 leaks."""
    naming.start_pass()
    out = []
    for module, call, after in calls:
        if call:
            out.append(str(naming.name(module, "relu", call, after)))
        else:
            naming.pass_leak(module, after)
    return out


def test_the_producer_names_the_call_and_equals_are_counted() -> None:
    assert names(Naming(), ("", 1, "conv1"), ("", 2, "conv2"), ("", 3, "conv2"), ("b", 1, "b.bn")) == [
        "conv1:relu",
        "conv2:relu",
        "conv2:relu#2",
        "b.bn:relu",
    ]


def test_a_producer_outside_of_the_module_or_none_leaves_the_number_of_the_call() -> None:
    calls = (("block1", 1, "stem"), ("block10", 1, "block1.conv"), ("act", 1, "act"), ("block1", 2, None))
    assert names(Naming(), *calls) == ["block1:relu#1", "block10:relu#1", "act:relu#1", "block1:relu#2"]


def test_a_leaky_call_keeps_the_place_that_its_relu_had() -> None:
    assert names(Naming(), ("", 0, "fc"), ("", 1, "fc"), ("", 2, None)) == ["fc:relu#2", ":relu#3"]
    assert names(Naming(), ("", 1, "a"), ("", 0, None), ("", 2, None)) == ["a:relu", ":relu#3"]


def test_no_name_is_given_twice_also_in_another_pass() -> None:
    naming = Naming()
    first = names(naming, ("", 1, "a"))
    assert names(naming, ("", 2, "a"), ("", 3, "a")) == ["a:relu#2", "a:relu#3"]
    assert first == ["a:relu"]
    naming = Naming()
    assert names(naming, ("block", 1, None), ("block", 2, None), ("", 1, "block"), ("", 2, "block")) == [
        "block:relu#1",
        "block:relu#2",
        "block:relu",
        "block:relu#3",
    ]
