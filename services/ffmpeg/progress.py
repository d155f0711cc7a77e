"""How far ffmpeg is, from the lines of `-progress` (fftools/ffmpeg.c, print_report)."""

from __future__ import annotations

import re
from collections.abc import Callable

from services.ffmpeg.job import Progress

# A title in the log can look like such a line, with as many digits as its author likes.
_DURATION = re.compile(rb"Duration: (\d{1,6}):(\d\d):(\d\d\.\d{1,6})")
_HEAD_BYTES = 64 * 1024


class ProgressReader:
    """Gathers lines into reports: give `line` and `log` to `run_sandboxed`.

    The length of the work is the longest input's duration, as ffmpeg itself logs it before it begins, or `stop_seconds`
    where the command stops earlier. It costs no probe; filters that change time make it an estimate.
    """

    def __init__(self, stop_seconds: float | None, report: Callable[[Progress], None]) -> None:
        self._stop = stop_seconds
        self._duration: float | None = stop_seconds
        self._report = report
        self._values: dict[str, str] = {}
        self._head: bytearray | None = bytearray()

    def log(self, data: bytes) -> None:
        """Look for the inputs' durations in the log's beginning."""
        if self._head is None:
            return
        self._head += data
        begun = self._head.find(b"Output #0")
        if begun < 0 and len(self._head) < _HEAD_BYTES:
            return
        durations = [int(h) * 3600 + int(m) * 60 + float(s) for h, m, s in _DURATION.findall(bytes(self._head))]
        self._head = None
        if durations:
            self._duration = max(durations) if self._stop is None else min(self._stop, max(durations))

    def line(self, line: bytes) -> None:
        """Take one `key=value`; `progress=` ends a report."""
        key, _, value = line.decode("ascii", "replace").strip().partition("=")
        self._values[key] = value.strip()
        if key != "progress":
            return
        position = max(_number(self._values.get("out_time_us", "")) / 1e6, 0.0)
        fraction = 0.0
        if self._duration and self._duration > 0:
            fraction = 1.0 if value.strip() == "end" else min(position / self._duration, 1.0)
        self._report(
            Progress(
                fraction=fraction,
                fps=_number(self._values.get("fps", "")),
                speed=_number(self._values.get("speed", "").removesuffix("x")),
                media_seconds=position,
            )
        )
        self._values.clear()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
