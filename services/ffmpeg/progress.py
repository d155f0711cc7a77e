"""How far ffmpeg is, from the lines of `-progress` (fftools/ffmpeg.c, print_report)."""

from __future__ import annotations

import re
from collections.abc import Callable

from services.ffmpeg.job import MOST_UNFINISHED, Progress
from services.ffmpeg.timeline import Timeline

# As av_dump_format writes them: what a file says about itself stands further in, with as many digits as its author
# likes.
_TOLD = re.compile(
    rb"(?:\[info\] )?(?:"
    rb"Input #(?P<input>\d{1,3})\b|"
    rb"  Duration: (?P<h>\d{1,6}):(?P<m>\d\d):(?P<s>\d\d\.\d{1,6})|"
    rb"(?P<begun>Output #0))"
)
# More than what is looked for has; the rest of a line may be long.
_LINE_BYTES = 256


class ProgressReader:
    """Gathers lines into reports: give `line` and `log` to `run_sandboxed`.

    How long the work is follows from `timeline` and the inputs' durations, as ffmpeg itself logs them before it begins.
    It costs no probe. Where that is not known (None: it never is), the fraction stays 0; it is 1 at the end alone.
    """

    def __init__(self, timeline: Timeline | None, report: Callable[[Progress], None]) -> None:
        self._timeline = timeline
        self._durations: dict[int, float] = {}
        self._seconds = timeline.seconds({}) if timeline else None
        self._report = report
        self._values: dict[str, str] = {}
        self._input = 0
        self._rest = b""
        self._begun = timeline is None

    def log(self, data: bytes) -> None:
        """Look for the inputs' durations in the log's beginning."""
        if self._begun:
            return
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:_LINE_BYTES]
        for line in lines:
            if match := _TOLD.match(line):
                self._told(match)

    def _told(self, match: re.Match[bytes]) -> None:
        if match["begun"]:
            self._begun = True
        elif match["input"]:
            self._input = int(match["input"])
        elif self._timeline and not self._begun:
            seconds = int(match["h"]) * 3600 + int(match["m"]) * 60 + float(match["s"])
            self._durations.setdefault(self._input, seconds)
            self._seconds = self._timeline.seconds(self._durations)

    def line(self, line: bytes) -> None:
        """Take one `key=value`; `progress=` ends a report."""
        key, _, value = line.decode("ascii", "replace").strip().partition("=")
        self._values[key] = value
        if key != "progress":
            return
        position = max(_number(self._values.get("out_time_us", "")) / 1e6, 0.0)
        fraction = 0.0
        if self._seconds and self._seconds > 0:
            fraction = 1.0 if value == "end" else min(position / self._seconds, MOST_UNFINISHED)
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
