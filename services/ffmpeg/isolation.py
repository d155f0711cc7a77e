"""How well this machine can isolate a job: which layers it has, whether they hold, whether that is enough."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.tasks import all_of
from services.ffmpeg import sandbox_launcher
from services.ffmpeg.limits import Limits
from services.ffmpeg.process import Ended, run_sandboxed
from services.ffmpeg.sandbox import LAUNCHER, Layers, Sandbox
from services.ffmpeg.work_folder import WorkFolder, WorkRoot

_SELF_TEST = "sandbox_selftest.py"
_LIMITS = Limits(wall_seconds=20, cpu_seconds=20, memory_bytes=2**30, output_bytes=2**20)
_PR_SET_DUMPABLE, _PR_GET_SECCOMP = 4, 21
# Filters that load code or open files and sockets; the policy refuses them, an image without them is better still.
_DANGEROUS_FILTERS = ("ladspa", "lv2", "frei0r", "zmq", "azmq", "movie", "amovie", "sendcmd", "flite", "program_opencl")


# What happens to any program of a machine that is short of memory, time or room.
_CUT_SHORT = frozenset({Ended.KILLED, Ended.WALL_CLOCK, Ended.CPU, Ended.NO_SPACE, Ended.NO_SPACE_TOLD})


class NoVerdict(Exception):
    """The self-test was cut short, which says nothing about the isolation: another try may tell. `args[0]`: by what."""


class Mode(Enum):
    """What a missing layer means."""

    STRICT = "strict"
    """The service is not ready."""
    BEST_EFFORT = "best-effort"
    """Jobs run with what there is; where that is the arguments' policy alone, on loopback only."""


@dataclass(frozen=True)
class SelfTest:
    """What was tried inside the cage."""

    checks: dict[str, bool] = field(default_factory=dict)
    """Name → it held."""
    milliseconds: int = 0

    @property
    def ok(self) -> bool:
        """All of it held."""
        return bool(self.checks) and all(self.checks.values())


@dataclass(frozen=True)
class Isolation:
    """The verdict on this machine, and the cage that goes with it."""

    mode: Mode
    sandbox: Sandbox
    selftest: SelfTest
    limits: Limits
    """What one command may use."""
    ffmpeg_version: str
    dangerous_filters: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """What strict mode wants and this machine has not."""
        return (
            *self.sandbox.layers.missing,
            *(f"selftest:{name}" for name, held in self.selftest.checks.items() if not held),
        )

    @property
    def level(self) -> str:
        """`kernel`: all layers hold; `partial`; `args-only`: nothing but the command policy and limits."""
        layers = self.sandbox.layers
        if layers.landlock_abi and layers.seccomp and self.selftest.ok:
            return "kernel"
        return "partial" if layers.landlock_abi or layers.seccomp else "args-only"

    @property
    def ready(self) -> bool:
        """Jobs may run."""
        works = self.selftest.checks.get("works_inside", False)
        return self.level == "kernel" if self.mode is Mode.STRICT else works

    @property
    def loopback_only(self) -> bool:
        """The service must not be reachable from outside: nothing but the policy stands between a job and it."""
        return self.level == "args-only"

    def health(self) -> dict[str, Any]:
        """The answer of `GET /health/isolation`."""
        layers = self.sandbox.layers
        abi = layers.landlock_abi
        return {
            "mode": self.mode.value,
            "level": self.level,
            "ok": self.ready,
            "missing": list(self.missing),
            "layers": {
                "arg_policy": True,
                "protocol_format_whitelist": True,
                "no_new_privs": True,
                "landlock": {"abi": abi, "fs": abi >= 1, "tcp": abi >= 4, "scope": abi >= 6},
                "seccomp": {"no_socket": layers.seccomp, "no_fork": layers.seccomp},
                "rlimits": {"AS": self.limits.address_space_bytes, "CPU": self.limits.cpu_seconds},
                "netns": False,
                "pidns": False,
                "separate_uid": False,
                "cgroup": {"memory.max": _cgroup_memory()},
            },
            "selftest": {
                "ok": self.selftest.ok,
                "ms": self.selftest.milliseconds,
                "checks": dict(self.selftest.checks),
            },
            "ffmpeg": {
                "version": self.ffmpeg_version,
                "dangerous_filters_compiled_in": list(self.dangerous_filters),
            },
        }


def require_ready(isolation: Isolation | None) -> None:
    """Raise ISOLATION_UNAVAILABLE (503) unless jobs may run; None: there is no ffmpeg."""
    if isolation is None:
        raise ReelwayError(ErrorReason.ISOLATION_UNAVAILABLE, "ffmpeg is not installed")
    if not isolation.ready:
        raise ReelwayError(
            ErrorReason.ISOLATION_UNAVAILABLE,
            f"isolation-unavailable: {', '.join(isolation.missing)}",
            metadata={"missing": ",".join(isolation.missing)},
        )


def detect_layers() -> Layers:
    """The layers that this kernel and this container allow; asks, changes nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = os.uname().machine in sandbox_launcher.ARCHITECTURES and libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0
    return Layers(landlock_abi=sandbox_launcher.landlock_abi(), seccomp=seccomp)


def protect_process() -> None:
    """Make this process's memory and environment unreadable for others of its user (prctl(2), PR_SET_DUMPABLE)."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_DUMPABLE")


async def examine(sandbox: Sandbox, mode: Mode, root: WorkRoot, limits: Limits) -> Isolation:
    """Test on ffmpeg itself what the sandbox's layers promise, and judge. Takes about half a second on an idle machine.

    `Sandbox(ffmpeg, ffprobe, detect_layers())` is the one to ask about; `limits` are those of commands, to be told.

    Raises:
        NoVerdict: see there; after 20 seconds at the latest.
    """
    try:
        return await _examine(sandbox, mode, root, limits)
    except OSError as error:
        raise NoVerdict(f"could not be run: {error}") from error


async def _examine(sandbox: Sandbox, mode: Mode, root: WorkRoot, limits: Limits) -> Isolation:
    folder = root.create("selftest")
    outside = root.create("selftest-outside")
    canary = outside.path / "out" / "canary"
    ffmpeg = sandbox.ffmpeg
    try:
        await asyncio.to_thread(canary.write_text, "canary")
        started = time.monotonic()
        made, looked, version, filters = await all_of(
            [
                _run(sandbox, folder, [ffmpeg, *_frame(folder)]),
                _run(sandbox, folder, [ffmpeg], _SELF_TEST, {"canary": str(canary), "outside": str(canary.parent)}),
                _run(sandbox, folder, [ffmpeg, "-hide_banner", "-version"]),
                _run(sandbox, folder, [ffmpeg, "-hide_banner", "-filters"]),
            ]
        )
        milliseconds = round((time.monotonic() - started) * 1000)
        works = made.succeeded and folder.usage().bytes > 0
    finally:
        folder.remove()
        outside.remove()
    stands = looked.succeeded and looked.lines
    findings: dict[str, bool] = json.loads(looked.lines[-1]) if stands else {"cage_stands": False}
    compiled_in = set(re.findall(r"^ [A-Z.|]{3} (\S+)", filters.text, re.MULTILINE))
    match = re.match(r"ffmpeg version (\S+)", version.text)
    return Isolation(
        mode=mode,
        sandbox=sandbox,
        selftest=SelfTest({"works_inside": works, **findings}, milliseconds),
        limits=limits,
        ffmpeg_version=match[1] if match else "",
        dangerous_filters=tuple(name for name in _DANGEROUS_FILTERS if name in compiled_in),
    )


@dataclass(frozen=True)
class _Run:
    """One program of the self-test, as it ended by itself."""

    succeeded: bool
    lines: list[bytes]

    @property
    def text(self) -> str:
        return b"\n".join(self.lines).decode(errors="replace")


async def _run(
    sandbox: Sandbox,
    folder: WorkFolder,
    argv: list[str],
    script: str = LAUNCHER,
    extra: Mapping[str, str] | None = None,
) -> _Run:
    lines: list[bytes] = []
    result = await run_sandboxed(sandbox, argv, folder, _LIMITS, on_line=lines.append, script=script, extra=extra)
    if result.ended in _CUT_SHORT:
        raise NoVerdict(result.ended.value)
    return _Run(result.ended is Ended.SUCCEEDED, lines)


def _frame(folder: WorkFolder) -> list[str]:
    """Arguments that make a frame, and write it."""
    return [
        *("-hide_banner", "-nostdin", "-protocol_whitelist", "file", "-format_whitelist", "lavfi"),
        *("-f", "lavfi", "-i", "color=s=16x16:d=0.1", "-frames:v", "1"),
        *("-f", "rawvideo", f"file:{folder.path}/out/0"),
    ]


def _cgroup_memory() -> int | None:
    """The container's memory limit in bytes (cgroup v2); None where there is none to see."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
