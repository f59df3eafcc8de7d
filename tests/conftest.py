"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# On a busy machine an example may take any time; what takes long shows among the slowest tests.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
# Before torch is imported: test processes share the cores already, and threads that fight over them
# make training many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Freed memory stays with the process (glibc): to fetch and clear it anew for every layer takes two fifths
# of the time of a network's step here. Read when a process starts, so by those that the tests start.
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(512 << 20))
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(128 << 20))

SHARED = Path(__file__).parents[2] / "shared"


def pytest_collection_modifyitems(items):
    """Files with slow tests first: one that starts last would keep one process busy while the others wait."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # stable: files and their tests keep their order


@pytest.fixture
def unsaved_figures(monkeypatch):
    """For tests of a page's words: figures are built, but an empty SVG is written, at a fifth of the time."""
    from matplotlib.figure import Figure

    empty = '<svg width="10pt" height="10pt" viewBox="0 0 10 10" xmlns="http://www.w3.org/2000/svg"></svg>'
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: file.write(empty))


@pytest.fixture
def shared():
    """The folder of reference numbers and real files beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the folder of reference files is not beside this checkout")
    return SHARED
