"""What will run: the arguments with their files left open, the files, the limits. Made by `command_policy.plan`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.ffmpeg.filter_graph import Parts
from services.ffmpeg.limits import Limits
from services.ffmpeg.paths import PLAIN_PATH
from services.ffmpeg.placeholders import FileRef
from services.ffmpeg.timeline import Timeline

GLOBAL_ARGUMENTS = ("-hide_banner", "-nostdin", "-nostats", "-y", "-loglevel", "level+info", "-progress", "pipe:1")
"""Before everything: no terminal, progress on standard output, levels in the log so that errors can be told."""


@dataclass(frozen=True)
class PlannedInput:
    """A file that must lie in the job's folder before the command starts."""

    placeholder: str
    url: str
    """What the client gave: http(s):// or video://."""
    path: str
    """Relative to the job's folder."""
    read_by_filter: bool = False
    """A filter opens it, past the forced whitelists: it must be probed first (command_run.py)."""


@dataclass(frozen=True)
class PlannedOutput:
    """A file that the command must leave."""

    placeholder: str
    name: str
    """The client's name for it, the last part of the object key."""
    path: str
    """Relative to the job's folder."""


@dataclass(frozen=True)
class Plan:
    """A command that may run."""

    arguments: tuple[Parts, ...]
    inputs: tuple[PlannedInput, ...]
    outputs: tuple[PlannedOutput, ...]
    limits: Limits
    timeline: Timeline = field(default_factory=Timeline)
    """For progress."""

    def argv(self, job_dir: Path | str) -> list[str]:
        """The arguments behind the binary's name, for files under `job_dir`, an absolute path of plain characters."""
        root = str(job_dir)
        if not PLAIN_PATH.fullmatch(root) or ".." in root:
            raise ValueError(f"a job folder must be an absolute path of letters, digits, '_', '-', '.' and '/': {root}")
        return self._words(lambda file: f"{root}/{file.path}")

    def display(self) -> list[str]:
        """The arguments as they would run, each file under its placeholder's name in braces."""
        return self._words(lambda file: f"{{{{{file.placeholder}}}}}")

    def _words(self, name: Callable[[FileRef], str]) -> list[str]:
        words = ("".join(part if isinstance(part, str) else name(part) for part in parts) for parts in self.arguments)
        return [*GLOBAL_ARGUMENTS, *words]

    def names(self, job_dir: Path | str) -> dict[str, str]:
        """Local path → placeholder, for error texts."""
        files: list[PlannedInput | PlannedOutput] = [*self.inputs, *self.outputs]
        return {f"{job_dir}/{file.path}": file.placeholder for file in files}
