"""What a process that decodes files of strangers may not do any more.

Use the network, start a program.
On Linux on x86-64 and 64-bit ARM the kernel refuses it (seccomp, for all threads of the process, without
privileges); elsewhere, and on kernels built without it, nothing is taken away and `confine` says so.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000  # numbers of another calling convention on x86-64

# Architecture (linux/audit.h), seccomp's own number, clone's, clone3's, and those that are refused: socket,
# connect, ptrace, execve, execveat, io_uring_setup, process_vm_readv, process_vm_writev; fork, vfork on x86.
_SYSTEMS = {
    "x86_64": (0xC000003E, 317, 56, 435, (41, 42, 101, 59, 322, 425, 310, 311, 57, 58)),
    "aarch64": (0xC00000B7, 277, 220, 435, (198, 203, 117, 221, 281, 425, 270, 271)),
}


def confine() -> bool:
    """Takes network, new programs and new processes from this process for good.

    Threads stay possible.
    Pipes and sockets that are open already go on working, and so do files.

    Returns:
        False where the system cannot do this; then nothing has changed.
    """
    system = _SYSTEMS.get(platform.machine()) if sys.platform == "linux" else None
    if system is None:
        return False
    architecture, seccomp, clone, clone3, refused = system
    program = _program(architecture, clone, clone3, refused)
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    flags = ctypes.c_ulong(_SECCOMP_FILTER_FLAG_TSYNC)
    return libc.syscall(ctypes.c_long(seccomp), _SECCOMP_SET_MODE_FILTER, flags, filter_) == 0


def _program(architecture: int, clone: int, clone3: int, refused: tuple[int, ...]) -> bytes:
    """The filter in classic BPF: eight bytes an instruction, jumps counted from the next one."""
    refuse = _step(_RETURN, _ERRNO | errno.EPERM)
    steps = [_step(_LOAD, _ARCHITECTURE), _step(_JUMP_EQUAL, architecture, 1, 0), refuse]
    steps += [_step(_LOAD, _NUMBER), _step(_JUMP_AT_LEAST, _X32, 0, 1), refuse]
    for number in refused:
        steps += [_step(_JUMP_EQUAL, number, 0, 1), refuse]
    # The C library falls back to clone, whose flags can be looked at: threads are made, processes are not.
    steps += [_step(_JUMP_EQUAL, clone3, 0, 1), _step(_RETURN, _ERRNO | errno.ENOSYS)]
    steps += [_step(_JUMP_EQUAL, clone, 0, 3), _step(_LOAD, _FIRST_ARGUMENT)]
    steps += [_step(_JUMP_BITS, _CLONE_THREAD, 1, 0), refuse]
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
