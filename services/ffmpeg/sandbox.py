"""How a program is put into the cage: what the launcher is told for one folder and one set of limits."""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.ffmpeg.limits import Limits

LAUNCHER = "sandbox_launcher.py"

# What a media program needs to read: its libraries, fonts, randomness. No /proc, /sys, /etc.
_READ = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/fonts",
    "/usr/share/fonts",
    "/usr/share/fontconfig",
    "/var/cache/fontconfig",
    "/dev/urandom",
)
TEMPORARY = "tmp"
_DESCRIPTORS = 256
# The watchdog ends a job at its CPU limit. The kernel's limit is higher by these and by a second for each core: what
# the kernel kills looks as if it had been killed from outside, and would be tried again.
_CPU_SLACK_SECONDS = 5


@dataclass(frozen=True)
class Layers:
    """Which layers the launcher puts up; one that is asked for and fails ends the launcher."""

    landlock_abi: int
    """0: no Landlock."""
    seccomp: bool

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of those that are not there."""
        return (*([] if self.landlock_abi else ["landlock"]), *([] if self.seccomp else ["seccomp"]))

    @property
    def label(self) -> str:
        """`landlock7+seccomp+rlimits`, as a job's record shows it."""
        names = [f"landlock{self.landlock_abi}"] if self.landlock_abi else []
        return "+".join([*names, *(["seccomp"] if self.seccomp else []), "rlimits"])


@dataclass(frozen=True)
class Sandbox:
    """A cage for the programs `ffmpeg` and `ffprobe`."""

    ffmpeg: str
    """Absolute path."""
    ffprobe: str
    """Absolute path."""
    layers: Layers
    max_abi: int = 7
    """Highest Landlock ABI that is used; for tests of older kernels."""
    python: str = field(default_factory=lambda: os.path.realpath(sys.executable))
    """Runs the launcher; for a test as a user who may not read ours."""
    scripts: Path = Path(__file__).parent
    """Where the launcher and the self-test lie."""

    def command(self, script: str = LAUNCHER) -> list[str]:
        """The launcher's command line; on standard input it gets what `spec` returns."""
        return [self.python, "-I", "-S", str(self.scripts / script)]

    def spec(self, argv: Sequence[str], folder: Path, limits: Limits, extra: Mapping[str, str] | None = None) -> bytes:
        """What the launcher needs to know to run `argv` (an absolute program first) in `folder`, marshalled.

        `folder` has the folders `in` (read), `out` and `tmp` (read and write).
        """
        temporary = f"{folder}/{TEMPORARY}"
        spec = {
            **(extra or {}),
            "parent": os.getpid(),
            "folder": str(folder),
            "layers": {"landlock": self.layers.landlock_abi > 0, "seccomp": self.layers.seccomp},
            "max_abi": self.max_abi,
            "limits": {
                "AS": limits.address_space_bytes,
                "CPU": limits.cpu_seconds + _CPU_SLACK_SECONDS + (os.cpu_count() or 1),
                "FSIZE": limits.output_bytes,
                "NOFILE": _DESCRIPTORS,
                "CORE": 0,
            },
            "read": [*_READ, f"{folder}/in"],
            "write": [f"{folder}/out", temporary, "/dev/null"],
            "argv": list(argv),
            "environment": {
                "PATH": "/usr/bin:/bin",
                "LANG": "C.UTF-8",
                # frei0r and lv2 look for plug-ins under $HOME.
                "HOME": "/nonexistent",
                "TMPDIR": temporary,
                "XDG_CACHE_HOME": temporary,
            },
        }
        return marshal.dumps(spec)
