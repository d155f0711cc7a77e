"""How far ffmpeg is, from the lines of `-progress` (fftools/ffmpeg.c, print_report)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One report; ffmpeg makes two a second."""

    fraction: float | None
    """0–1 of the known duration; None where it is not known."""
    position_seconds: float
    """Time stamp that the output has reached."""
    fps: float
    speed: float
    """Media seconds per second; 0 where it is not told."""
    finished: bool


class ProgressReader:
    """Gathers lines into reports: give `line` to `run_sandboxed`."""

    def __init__(self, duration_seconds: float | None, report: Callable[[Progress], None]) -> None:
        self._duration = duration_seconds
        self._report = report
        self._values: dict[str, str] = {}

    def line(self, line: bytes) -> None:
        """Take one `key=value`; `progress=` ends a report."""
        key, _, value = line.decode("ascii", "replace").strip().partition("=")
        self._values[key] = value.strip()
        if key != "progress":
            return
        position = max(_number(self._values.get("out_time_us", "")) / 1e6, 0.0)
        finished = value.strip() == "end"
        fraction = None
        if self._duration and self._duration > 0:
            fraction = 1.0 if finished else min(position / self._duration, 1.0)
        self._report(
            Progress(
                fraction=fraction,
                position_seconds=position,
                fps=_number(self._values.get("fps", "")),
                speed=_number(self._values.get("speed", "").removesuffix("x")),
                finished=finished,
            )
        )
        self._values.clear()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
