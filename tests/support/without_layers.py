"""Runs a module on a kernel without some layers of isolation: `without_layers.py landlock,seccomp MODULE`.

The system calls of those layers fail as they do where the kernel was built without them: by a filter that this process
and all it starts inherit. What is run does not know of it.
"""

import ctypes
import os
import runpy
import struct
import sys

# Numbers on x86_64 and aarch64 (asm-generic/unistd.h); landlock_create_ruleset has one.
_LANDLOCK_CREATE = 444
_PRCTL, _SECCOMP = {"x86_64": (157, 317), "aarch64": (167, 277)}[os.uname().machine]
_PR_GET_SECCOMP, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 21, 22, 38
_EINVAL, _ENOSYS = 22, 38
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _FIRST_ARGUMENT = 0, 16

_Step = tuple[int, int, int, int]


def program(layers: set[str]) -> bytes:
    """Classic BPF, see seccomp(2): code, jump if true, jump if false, value."""
    steps: list[_Step] = [(_LOAD, 0, 0, _NUMBER)]
    if "landlock" in layers:
        steps += [(_EQUAL, 0, 1, _LANDLOCK_CREATE), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    if "seccomp" in layers:
        steps += [(_EQUAL, 0, 1, _SECCOMP), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
        steps += [(_EQUAL, 0, 4, _PRCTL), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
        steps += [(_EQUAL, 1, 0, _PR_GET_SECCOMP), (_EQUAL, 0, 1, _PR_SET_SECCOMP), (_RETURN, 0, 0, _ERRNO | _EINVAL)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def hide(layers: set[str]) -> None:
    """Put the filter over this process; there is no way back."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = program(layers)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, None, 0, 0), (_PR_SET_SECCOMP, 2, head, 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {arguments[0]}")


if __name__ == "__main__":
    hide(set(sys.argv[1].split(",")))
    del sys.argv[1]
    runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
