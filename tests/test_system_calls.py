"""What commands over hostile files ask the system for: see `system_calls.py`."""

from __future__ import annotations

import pytest
import system_calls


@pytest.mark.slow
def test_hostile_files_start_nothing_call_nobody_and_change_nothing_outside():
    if not system_calls.has_strace():
        pytest.skip("strace is not installed here, or may not trace")
    found = system_calls.run(("scan", "preprocess", "evaluate"))
    assert (found["server"], found["inputs"]) == ("was not called", "as before")
    for verb in ("scan", "preprocess", "evaluate"):
        assert found[verb]["findings"] == [], verb
        assert len(found[verb]["programs"]) == 1
        assert found[verb]["calls"] > 100


def test_a_program_a_socket_or_a_change_outside_is_a_finding(tmp_path):
    result = {"programs": [], "findings": []}
    (tmp_path / "out").mkdir()
    harmless = [
        '7 openat(AT_FDCWD</x>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3</etc/passwd>',
        f'7 openat(AT_FDCWD<{tmp_path}>, "a.png", O_RDONLY|O_CLOEXEC) = 3<{tmp_path}/a.png>',
        f'7 openat(AT_FDCWD<{tmp_path}>, "out/a", O_WRONLY|O_CREAT, 0600) = 3',
        f'7 unlinkat(4<{tmp_path}/out>, "a", 0) = 0',
        '7 execve("/usr/bin/gs", ["gs"], 0x7 /* 2 vars */) = -1 ENOENT (No such file or directory)',
        "7 socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3",
    ]
    bad = [
        f'7 openat(AT_FDCWD<{tmp_path}>, "a.png", O_RDONLY|O_CLOEXEC) = 3<{tmp_path.parent}/secret.png>',
        f'7 openat(AT_FDCWD<{tmp_path}>, "b", O_RDWR) = 3',
        f'7 unlinkat(4<{tmp_path}>, "a", 0) = 0',
        f'7 renameat2(AT_FDCWD<{tmp_path}>, "out/a", AT_FDCWD<{tmp_path}>, "b", 0) = 0',
        '7 execve("/usr/bin/gs", ["gs"], 0x7 /* 2 vars */) = 0',
        "7 socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3",
    ]
    for line in (*harmless, *bad):
        system_calls._judge(line, tmp_path, result)
    assert result["findings"] == bad
