"""What the tests of the evaluation room share: an evaluation of the digits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.config.expand import expand
from harness.config.schema import Linear


@pytest.fixture
def spec() -> Linear:
    """The laptop's linear evaluation of Table 5b, cut to one epoch (8 updates)."""
    return replace(expand("5b", "laptop", seeds=1, cell="byol").members[0].evaluation, epochs=1)
