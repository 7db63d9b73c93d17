"""What a glob matches, and the error for one that matches nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deadrelu.judge.globs import Selector, matches, no_match, without_match
from deadrelu.judge.policy import Policy
from deadrelu.report import Skipped
from tests.conftest import make_site

CONV = replace(make_site("conv1:relu", 4), alias=":relu#1")


@pytest.mark.parametrize(
    ("glob", "named"), [("conv1:*", True), (":relu#1", True), (":relu*", True), ("conv1", False), (":relu#2", False)]
)
def test_a_glob_matches_the_id_and_the_former_id_of_a_site(glob: str, named: bool) -> None:
    assert matches(glob, CONV) is named
    assert matches(glob, Skipped(id="conv1:relu", op="relu", reason="", alias=":relu#1")) is named


def test_limits_and_ignores_for_former_ids_still_apply() -> None:
    policy = Policy(limits=((":relu#1", 0.5),), ignore=("DR004@:relu#1: rare by design",))
    assert policy.limit(CONV) == 0.5
    assert not policy.counts("DR004", CONV)
    assert [(s.glob, s.written) for s in policy.selectors] == [
        (":relu#1", "--limits :relu#1=50%"),
        (":relu#1", "--ignore DR004@:relu#1"),
    ]


def test_the_error_lists_similar_ids_first_and_counts_the_rest() -> None:
    ids = [f"layer{n}.0.relu#1" for n in range(20)] + ["head.relu"]
    error = no_match(Selector(glob="haed.relu", written="--limits haed.relu=5%"), ids)
    assert error.message == "--limits haed.relu=5%: no site matches 'haed.relu'"
    assert error.hint.startswith("did you mean head.relu? the sites are head.relu, layer0.0.relu#1, ")
    assert error.hint.endswith("and 9 more")
    near = no_match(Selector(glob="haed.relu", written="--site haed.relu"), ["stem", "head.relu"])
    assert near.hint == "did you mean head.relu? the sites are head.relu, stem"


def test_only_a_feature_axis_may_name_modules() -> None:
    axis, skip = Selector(glob="block", written="a", takes_modules=True), Selector(glob="block", written="b")
    errors = without_match([axis, skip], [CONV], ["block"])
    assert [error.message for error in errors] == ["b: no site matches 'block'"]
