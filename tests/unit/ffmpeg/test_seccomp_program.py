"""Runs the filter's own instructions, for both architectures, as the kernel would."""

from __future__ import annotations

import struct

import pytest

from services.ffmpeg import sandbox_launcher
from services.ffmpeg.sandbox_launcher import SandboxError, seccomp_program

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, EACCES, ENOSYS = 0x50001, 0x5000D, 0x50026
X86, ARM = 0xC000003E, 0xC00000B7
OWN = 4242


def verdict(machine: str, arch: int, number: int, argument: int = 0, second: int = 0) -> int:
    """What the program answers to a system call (seccomp_data: nr, arch, ip, args)."""
    code = seccomp_program(machine, OWN)
    data = struct.pack("<iIQ6Q", number, arch, 0, argument, second, 0, 0, 0, 0)
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = struct.unpack_from("=HBBI", code, at * 8)
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")


@pytest.mark.parametrize(
    ("machine", "arch", "numbers"),
    [
        (
            "x86_64",
            X86,
            {"read": 0, "write": 1, "openat": 257, "mmap": 9, "futex": 202, "execve": 59, "exit_group": 231},
        ),
        ("aarch64", ARM, {"read": 63, "write": 64, "openat": 56, "mmap": 222, "futex": 98, "execve": 221, "exit": 94}),
    ],
)
def test_ordinary_calls_pass(machine: str, arch: int, numbers: dict[str, int]) -> None:
    assert {name: verdict(machine, arch, number) for name, number in numbers.items()} == dict.fromkeys(numbers, ALLOW)


@pytest.mark.parametrize(("machine", "arch", "column"), [("x86_64", X86, 0), ("aarch64", ARM, 1)])
def test_denied_calls_are_denied(machine: str, arch: int, column: int) -> None:
    for pair in sandbox_launcher._NO_SOCKET.values():
        assert verdict(machine, arch, pair[column]) == EACCES
    denied = [pair[column] for pair in sandbox_launcher._DENIED.values() if pair[column] is not None]
    assert len(denied) > 70
    assert {verdict(machine, arch, number) for number in denied if number is not None} == {EPERM}


def test_the_schedule_of_other_processes_and_the_flags_of_other_files_are_denied() -> None:
    """By the numbers of the kernel's own tables, arch/x86/entry/syscalls/syscall_64.tbl and asm-generic/unistd.h."""
    numbers = {
        ("x86_64", X86): (141, 203, 144, 142, 314, 251, 256, 279, 469),
        ("aarch64", ARM): (140, 122, 119, 118, 274, 30, 238, 239, 469),
    }
    for (machine, arch), denied in numbers.items():
        assert {verdict(machine, arch, number) for number in denied} == {EPERM}


@pytest.mark.parametrize(("machine", "arch", "column"), [("x86_64", X86, 0), ("aarch64", ARM, 1)])
def test_threads_may_be_made_and_processes_not(machine: str, arch: int, column: int) -> None:
    clone, clone3 = sandbox_launcher._CLONE[column], sandbox_launcher._CLONE3[column]
    threads = 0x3D0F00  # what pthread_create asks for
    assert verdict(machine, arch, clone, threads) == ALLOW
    assert verdict(machine, arch, clone, 17) == EPERM
    assert verdict(machine, arch, clone, 0x10000000 | 17) == EPERM
    assert verdict(machine, arch, clone3) == ENOSYS


@pytest.mark.parametrize(("machine", "arch", "column"), [("x86_64", X86, 0), ("aarch64", ARM, 1)])
def test_a_process_may_signal_and_limit_itself_alone(machine: str, arch: int, column: int) -> None:
    tgkill, prlimit = sandbox_launcher._TGKILL[column], sandbox_launcher._PRLIMIT[column]
    assert [verdict(machine, arch, tgkill, pid) for pid in (OWN, 1, OWN + 1)] == [ALLOW, EPERM, EPERM]
    assert [verdict(machine, arch, prlimit, pid) for pid in (0, OWN, 1)] == [ALLOW, ALLOW, EPERM]


@pytest.mark.parametrize(("machine", "arch", "fcntl"), [("x86_64", X86, 72), ("aarch64", ARM, 25)])
def test_no_descriptor_signals_another_process(machine: str, arch: int, fcntl: int) -> None:
    """F_SETOWN says whom, F_SETSIG with what; by the numbers of asm-generic/fcntl.h."""
    f_getfl, f_setfl, f_setown, f_setsig, f_setown_ex = 3, 4, 8, 10, 15
    assert [verdict(machine, arch, fcntl, 9, command) for command in (f_getfl, f_setfl)] == [ALLOW, ALLOW]
    denied = (f_setown, f_setsig, f_setown_ex, 2**32 + f_setown)
    assert {verdict(machine, arch, fcntl, 9, command) for command in denied} == {EPERM}


def test_other_architectures_are_killed_or_unknown() -> None:
    assert verdict("x86_64", 0x40000003, 11) == KILL  # i386 execve
    assert verdict("x86_64", X86, 0x40000000 | 41) == ENOSYS  # x32 socket
    assert verdict("aarch64", X86, 41) == KILL
    with pytest.raises(SandboxError):
        seccomp_program("riscv64", OWN)


def test_no_number_is_used_twice() -> None:
    for column in (0, 1):
        pairs = {**sandbox_launcher._NO_SOCKET, **sandbox_launcher._DENIED}
        numbers = [pair[column] for pair in pairs.values() if pair[column] is not None]
        assert len(numbers) == len(set(numbers))
