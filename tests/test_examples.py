"""Every example in a docstring gives what it says."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("datasets", "preprocessing", "evaluation", "fairness", "analysis", "ucf", "app")
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for layer in LAYERS
    for path in (ROOT / layer).rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstring_examples(name):
    # By import name: collecting by file would load a second copy of each module.
    results = doctest.testmod(importlib.import_module(f"unmasked.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
