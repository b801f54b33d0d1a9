"""What takes seconds to find and several tests look at."""

from __future__ import annotations

import pytest

from simulator.evidence.validation import Validation, validate


@pytest.fixture(scope="session")
def validation() -> Validation:
    """The shipped runs beside their predictions."""
    return validate()
