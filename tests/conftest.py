"""Fixtures that several test files share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared():
    """The folder of reference numbers and real files beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the folder of reference files is not beside this checkout")
    return SHARED
