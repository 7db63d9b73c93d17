"""What the tests of measuring share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deadrelu.measure import native


@pytest.fixture(params=["in C", "in torch"], scope="module")
def counter(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the test with the counter in C, and with torch's operations."""
    in_c = request.param == "in C"
    if in_c and not native.IS_AVAILABLE:
        pytest.skip("the extension in C was not built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "IS_AVAILABLE", in_c)
        yield
