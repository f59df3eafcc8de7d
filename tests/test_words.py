"""The words of the product: first lines of docstrings, names of truth values, one name for a logger."""

import ast
import re
from pathlib import Path

import pytest
from test_layering import FILES, ROOT

COLUMNS = 88
# Functions that return a truth value under another name, and why.
OTHER_NAMES = {
    "matches": "the contract of a source: scan asks each one whether the folder is its own",
    "holds": "the contract of a source that lives in the tree of another",
    "randomised": "the name in mitigation.json as well",
    "confine": "an action that says whether it was possible",
    "folder_lock": "a context manager; what it yields says whether the lock is held",
    "_lock": "waits for a lock and says whether it has it",
    "_try_lock": "tries to take a lock and says whether it has it",
    "has": "reads as a claim: range.has(value)",
}


def documented(node, is_public=True):
    yield node, is_public
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            public = is_public and not child.name.startswith("_")
            if isinstance(child, ast.ClassDef):
                yield from documented(child, public)
            else:
                yield child, public


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def place(path, node):
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse(Path(path).read_text(encoding="utf-8")) for path in FILES}


def test_first_lines_of_public_docstrings_are_short(trees):
    long = [
        f"{place(path, node)} has {len(first)} columns: {first}"
        for path, tree in trees.items()
        for node, is_public in documented(tree)
        if is_public and len(first := (ast.get_docstring(node) or "").split("\n")[0]) > COLUMNS
    ]
    assert not long, f"shorten these first lines to {COLUMNS} columns:\n" + "\n".join(long)


def test_truth_values_are_named_as_claims(trees):
    odd = [
        f"{place(path, node)} {node.name}"
        for path, tree in trees.items()
        for node in functions(tree)
        if node.returns is not None
        and ast.unparse(node.returns) == "bool"
        and not node.name.lstrip("_").startswith(("is_", "has_", "__"))
        and node.name not in OTHER_NAMES
    ]
    assert not odd, "name these is_… or has_…, or say above why not:\n" + "\n".join(odd)


def test_docstrings_of_truth_values_begin_with_true_if(trees):
    odd = [
        f"{place(path, node)} {node.name}: {text.splitlines()[0]}"
        for path, tree in trees.items()
        for node in functions(tree)
        if node.returns is not None
        and ast.unparse(node.returns) == "bool"
        and node.name.lstrip("_").startswith(("is_", "has_"))
        and (text := ast.get_docstring(node))
        and not text.startswith("True if")
    ]
    assert not odd, "begin these docstrings with 'True if':\n" + "\n".join(odd)


def test_every_module_calls_its_logger_logger():
    for path in FILES:
        for name in re.findall(
            r"^(\w+) = logging\.getLogger\(__name__\)", path.read_text("utf-8"), flags=re.M
        ):
            assert name == "logger", f"{path.relative_to(ROOT)} calls its logger {name}; call it logger"


def test_only_one_place_asks_what_was_meant():
    """A second use of difflib is a second wording of the same question."""
    users = {str(path.relative_to(ROOT)) for path in FILES if "get_close_matches(" in path.read_text("utf-8")}
    assert users == {"datasets/errors.py"}
