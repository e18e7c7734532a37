"""What every test may use: a model endpoint of its own."""

from collections.abc import Iterator

import pytest
from endpoint import Endpoint


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as serving:
        yield serving
