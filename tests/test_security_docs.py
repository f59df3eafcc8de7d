"""docs/security_tests.md names tests that exist, and SECURITY.md's word on locks holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_stream_kinds import KINDS

from unmasked.app.run import only_one_in
from unmasked.datasets import locks

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs/security_tests.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+(?:::test_\w+)?)`", TEXT)))


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_is_named_exists(name):
    file, _, function = name.partition("::")
    source = (TESTS / f"{file}.py").read_text(encoding="utf-8")
    assert f"\ndef {function or 'test_'}" in source


def test_every_row_of_the_list_names_a_test():
    rows = [line for line in TEXT[: TEXT.index("## Fuzzing")].splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| attack |")]
    assert len(rows) > 60
    assert [row for row in rows if "`test_" not in row] == []


def test_the_list_of_streams_is_the_one_that_is_tested():
    part = " ".join(TEXT[TEXT.index("## Kinds of stream") : TEXT.index("## Signals")].split())
    named = {
        f"{codec} {kind}"
        for codec, count, kinds in re.findall(r"\*\*(\w+)\*\* \((\d+)\): ([^;]+?)(?=; \*\*|$)", part)
        for kind in kinds.split(" | ")
        if len(kinds.split(" | ")) == int(count)
    }
    assert named == {kind if " " in kind else f"{kind} {kind}" for kind in KINDS}
    assert part.startswith(f"## Kinds of stream {len(KINDS)} kinds")


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, caplog):
    class Lockless:
        def __init__(self, path: Path) -> None: ...

        def acquire(self, **_: object) -> None:
            raise NotImplementedError

    monkeypatch.setattr(locks, "FileLock", Lockless)
    with only_one_in(tmp_path, "evaluate"), locks.folder_lock(tmp_path) as is_held:
        assert not is_held
    assert "no locks on the file system" in caplog.text
