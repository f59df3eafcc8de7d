"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest

# Before torch is imported: test processes share the cores already, and threads that fight over them
# make training many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared():
    """The folder of reference numbers and real files beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the folder of reference files is not beside this checkout")
    return SHARED
