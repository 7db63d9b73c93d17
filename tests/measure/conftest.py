"""What the tests of measuring share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deadrelu.measure import native


@pytest.fixture(params=["in C", "in torch"], scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test runs with the extension, and as where there is none."""
    in_c = request.param == "in C"
    if in_c and not native.IS_THERE:
        pytest.skip("the extension in C was not built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "IS_THERE", in_c)
        yield
