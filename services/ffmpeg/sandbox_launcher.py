"""Puts itself into a cage, then becomes the program it was told to run.

Run as `python -I -S sandbox_launcher.py <SPEC`, SPEC being marshalled as `sandbox.Sandbox.spec` writes it; the
program's own standard input is /dev/null. Only the standard library: no site, no environment, nothing of this project.
Each step that fails ends it with status 125 and a line `SANDBOX-FAILED: …` on standard error; it never goes on with
less than it was told to. Every program pays for its start, which `json`, `typing`, `signal` or `pathlib` would double.

Layers, in order: own session, death with the parent, no_new_privs, no capabilities, limits, Landlock (landlock(7)),
seccomp (seccomp(2)), no descriptors above 2, an environment of five names.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import resource
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

FAILED_STATUS, FAILED_MARK = 125, "SANDBOX-FAILED"

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_LANDLOCK_CREATE, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT = 444, 445, 446  # one number on every architecture

# landlock(7): access rights to files, by the ABI that brought them.
_FS_EXECUTE, _FS_WRITE, _FS_READ, _FS_READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FS_REMOVE_DIR, _FS_REMOVE_FILE, _FS_MAKE_DIR, _FS_MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_FS_REFER, _FS_TRUNCATE, _FS_IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_NET_ALL = 0b11
_SCOPE_ALL = 0b11

_READ = _FS_READ | _FS_READ_DIR
# No sockets, pipes, devices or symbolic links are ever made in a job's folder.
_READ_WRITE = _READ | _FS_WRITE | _FS_REMOVE_FILE | _FS_REMOVE_DIR | _FS_MAKE_DIR | _FS_MAKE_REG | _FS_TRUNCATE
_FILE_ONLY = _FS_EXECUTE | _FS_WRITE | _FS_READ | _FS_TRUNCATE | _FS_IOCTL_DEV

_SIGKILL, _SIGPIPE, _SIGXFSZ = 9, 13, 25
_SIG_DFL, _SIG_IGN = 0, 1

_libc = ctypes.CDLL(None, use_errno=True)


class SandboxError(Exception):
    """A layer that could not be put up."""


def _prctl(option: int, value: int | ctypes.Array[Any] = 0, pointer: Any = 0) -> None:
    if _libc.prctl(option, value, pointer, 0, 0) != 0:
        raise SandboxError(f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def _syscall(name: str, number: int, *arguments: Any) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise SandboxError(f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


# --- Landlock ------------------------------------------------------------------------------------------------------


def landlock_abi() -> int:
    """The kernel's Landlock ABI; 0 where there is none."""
    result = int(_libc.syscall(ctypes.c_long(_LANDLOCK_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint32(1)))
    return max(result, 0)


def fs_rights(abi: int) -> int:
    """Every file right that an ABI can withhold."""
    rights = (1 << 13) - 1
    if abi >= 2:
        rights |= _FS_REFER
    if abi >= 3:
        rights |= _FS_TRUNCATE
    if abi >= 5:
        rights |= _FS_IOCTL_DEV
    return rights


def apply_landlock(read: list[str], write: list[str], execute: list[str], max_abi: int) -> None:
    """Leave only these paths; a path that does not exist is passed over."""
    abi = min(landlock_abi(), max_abi)
    if abi < 1:
        raise SandboxError("this kernel has no Landlock")
    handled = fs_rights(abi)
    attributes = struct.pack("=Q", handled)
    if abi >= 4:
        attributes += struct.pack("=Q", _NET_ALL)
    if abi >= 6:
        attributes += struct.pack("=Q", _SCOPE_ALL)
    ruleset = _syscall(
        "landlock_create_ruleset", _LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    for paths, rights in ((read, _READ), (write, _READ_WRITE), (execute, _FS_EXECUTE | _FS_READ)):
        for path in paths:
            _allow(ruleset, path, rights & handled)
    _syscall("landlock_restrict_self", _LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        is_folder = os.path.isdir(path)  # noqa: PTH112 - see above
        rule = struct.pack("=Qi", rights if is_folder else rights & _FILE_ONLY, descriptor)
        _syscall(
            f"landlock_add_rule {path}",
            _LANDLOCK_ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(1),
            rule,
            ctypes.c_uint32(0),
        )
    finally:
        os.close(descriptor)


# --- seccomp -------------------------------------------------------------------------------------------------------

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _EACCES, _ENOSYS = 1, 13, 38
_OFFSET_NR, _OFFSET_ARCH, _OFFSET_ARG0, _OFFSET_ARG1 = 0, 4, 16, 24
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000

# System calls by number: x86_64, aarch64 (asm-generic/unistd.h); None where the architecture has none.
_NO_SOCKET = {"socket": (41, 198), "socketpair": (53, 199)}
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # Other processes: their memory, their descriptors, signals to them.
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "process_madvise": (440, 440),
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    # Which of them runs when and where, and where its memory lies.
    "setpriority": (141, 140), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "ioprio_set": (251, 30), "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # New processes; threads come through clone, which is looked at more closely.
    "fork": (57, None), "vfork": (58, None), "execveat": (322, 281),
    # Kernel interfaces with a history.
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "memfd_create": (319, 279), "memfd_secret": (447, 447), "fanotify_init": (300, 262),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "lookup_dcookie": (212, 18),
    # Namespaces and mounts.
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    # Attributes of files outside the folder, which Landlock does not cover.
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "setxattrat": (463, 463), "removexattrat": (466, 466), "file_setattr": (469, 469),
    "mknod": (133, None), "mknodat": (259, 33), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    # The machine.
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "acct": (163, 89), "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162), "syslog": (103, 116),
    "quotactl": (179, 60), "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None),
    "personality": (135, 92), "vhangup": (153, 58),
    # Memory shared with processes of the same user.
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    # Identity.
    "setuid": (105, 146), "setgid": (106, 144), "setresuid": (117, 147), "setresgid": (119, 149),
    "setgroups": (116, 159), "capset": (126, 91),
}  # fmt: skip
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_TGKILL, _PRLIMIT, _CLONE, _CLONE3 = (234, 131), (302, 261), (56, 220), (435, 435)
_FCNTL = (72, 25)
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15


class _Program:
    """Classic BPF (linux/filter.h), written front to back; a jump skips what a condition guards."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int, int, int]] = []

    def add(self, code: int, value: int, if_true: int = 0, if_false: int = 0) -> None:
        self.code.append((code, if_true, if_false, value))

    def answer(self, action: int) -> None:
        self.add(_RET, action)

    def packed(self) -> bytes:
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in self.code)


def seccomp_program(machine: str, own_pid: int) -> bytes:
    """The filter for `machine` (x86_64 or aarch64); `own_pid` may signal its own threads (abort(3) does)."""
    if machine not in ARCHITECTURES:
        raise SandboxError(f"no system call numbers for {machine}")
    column, audit_arch = ARCHITECTURES[machine]
    program = _Program()
    program.add(_LD, _OFFSET_ARCH)
    program.add(_JEQ, audit_arch, if_true=1)
    program.answer(_KILL)
    program.add(_LD, _OFFSET_NR)
    if machine == "x86_64":
        program.add(_JGE, _X32, if_false=1)
        program.answer(_ERRNO | _ENOSYS)
    for numbers, error in ((_NO_SOCKET, _EACCES), (_DENIED, _EPERM)):
        for pair in numbers.values():
            if (number := pair[column]) is not None:
                program.add(_JEQ, number, if_false=1)
                program.answer(_ERRNO | error)
    program.add(_JEQ, _CLONE3[column], if_false=1)
    program.answer(_ERRNO | _ENOSYS)
    # clone: threads only. The flags are the first argument on both architectures.
    program.add(_JEQ, _CLONE[column], if_false=4)
    program.add(_LD, _OFFSET_ARG0)
    program.add(_JSET, _CLONE_THREAD, if_true=1)
    program.answer(_ERRNO | _EPERM)
    program.answer(_ALLOW)
    # tgkill: own threads only. prlimit64: own limits only (pid 0 or own).
    program.add(_JEQ, _TGKILL[column], if_false=4)
    program.add(_LD, _OFFSET_ARG0)
    program.add(_JEQ, own_pid, if_true=1)
    program.answer(_ERRNO | _EPERM)
    program.answer(_ALLOW)
    program.add(_JEQ, _PRLIMIT[column], if_false=5)
    program.add(_LD, _OFFSET_ARG0)
    program.add(_JEQ, 0, if_true=2)
    program.add(_JEQ, own_pid, if_true=1)
    program.answer(_ERRNO | _EPERM)
    program.answer(_ALLOW)
    # fcntl: a pipe that is ready signals whom it is told to, with what it is told to; Landlock sees it from ABI 6 on.
    program.add(_JEQ, _FCNTL[column], if_false=5)
    program.add(_LD, _OFFSET_ARG1)
    program.add(_JEQ, _F_SETOWN, if_true=2)
    program.add(_JEQ, _F_SETSIG, if_true=1)
    program.add(_JEQ, _F_SETOWN_EX, if_false=1)
    program.answer(_ERRNO | _EPERM)
    program.answer(_ALLOW)
    return program.packed()


def apply_seccomp() -> None:
    """Put the filter over this process; no_new_privs must be set."""
    code = seccomp_program(os.uname().machine, os.getpid())
    buffer = ctypes.create_string_buffer(code, len(code))
    pointer = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    _prctl(_PR_SET_SECCOMP, 2, ctypes.create_string_buffer(pointer, len(pointer)))


# --- the rest ------------------------------------------------------------------------------------------------------


def _die_with_parent(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        raise SandboxError("the parent is gone")


def _drop_capabilities() -> None:
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))  # _LINUX_CAPABILITY_VERSION_3
    if _libc.capset(header, ctypes.create_string_buffer(24)) != 0:
        raise SandboxError(f"capset: {os.strerror(ctypes.get_errno())}")


def _set_limits(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(kind)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))


def interpreter_of(binary: str) -> str | None:
    """The loader that an ELF file asks for (PT_INTERP); None for a static one."""
    with open(binary, "rb") as file:  # noqa: PTH123 - see above
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            raise SandboxError(f"{binary} is not a 64-bit program")
        table, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        for number in range(count):
            file.seek(table + number * size)
            kind, _, offset, _, _, length = struct.unpack("<IIQQQQ", file.read(40))
            if kind == 3:
                file.seek(offset)
                return file.read(length).rstrip(b"\0").decode()
    return None


def read_spec() -> dict[str, Any]:
    """The SPEC on standard input, which is /dev/null from then on: the program must not read what it was told."""
    with open(0, "rb", closefd=False) as file:
        spec: dict[str, Any] = marshal.load(file)  # noqa: S302 - from the worker
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    return spec


def enter(spec: dict[str, Any]) -> None:
    """Everything but the last step: after this the process is caged."""
    layers = spec["layers"]
    os.setsid()
    os.umask(0o077)
    _die_with_parent(spec["parent"])
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _drop_capabilities()
    os.chdir(spec["folder"])
    _set_limits(spec["limits"])
    os.closerange(3, 65536)
    if layers["landlock"]:
        binary = spec["argv"][0]
        loader = interpreter_of(binary)
        apply_landlock(spec["read"], spec["write"], [binary, loader] if loader else [binary], spec["max_abi"])
    if layers["seccomp"]:
        apply_seccomp()
    # A full file is then an error that ffmpeg reports (EFBIG), not a signal.
    _libc.signal(_SIGXFSZ, ctypes.c_void_p(_SIG_IGN))
    _libc.signal(_SIGPIPE, ctypes.c_void_p(_SIG_DFL))


def fail(error: Exception) -> NoReturn:
    """Say why, and leave with the status that means: nothing ran."""
    os.write(2, f"{FAILED_MARK}: {error}\n".encode(errors="replace"))
    os._exit(FAILED_STATUS)


def main() -> NoReturn:
    """Cage this process and become the program."""
    try:
        spec = read_spec()
        enter(spec)
        os.execve(spec["argv"][0], spec["argv"], spec["environment"])  # noqa: S606 - that is what it is for
    except Exception as error:
        fail(error)


if __name__ == "__main__":
    main()
