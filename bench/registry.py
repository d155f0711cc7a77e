"""What is measured: rows, and the targets they must reach. One module of `bench.subjects` per subject.

A new subject (appending, listings, …) is a module with `ROWS` and `TARGETS`, named in `SUBJECTS` of
`bench/subjects/__init__.py`; a new server to compare with is a `Peer`, named in `bench.lab.PEERS`.
"""

import enum
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.load import Load
from bench.peers import Peer
from bench.storage import StoredVideo

OURS = "reelway"


class Metric(enum.Enum):
    """What a row shows; the value is the heading of its column."""

    MIB_PER_SECOND = "MiB/s"
    P50_MS = "p50 ms"
    P99_MS = "p99 ms"
    CPU_SECONDS_PER_GIB = "CPU s/GiB"
    PEAK_RSS_MIB = "peak RSS MiB"
    MIB_PER_VIEWER = "MiB/viewer"
    P99_RATIO = "p99, of that with few"
    SECONDS_OVER_FFMPEG = "s over ffmpeg"
    APPEND_MIB_PER_SECOND = "appended MiB/s"
    TUS_MIB_PER_SECOND = "tus MiB/s"
    TIME_OF_TUS = "of tus's time"
    CPU_OF_TUS = "of tus's CPU"
    S3_REQUESTS = "requests to S3"
    TUS_S3_REQUESTS = "tus's requests to S3"
    REQUESTS_OF_TUS = "of tus's requests to S3"
    CPU_OVER_FFMPEG = "% CPU over ffmpeg"


@dataclass(frozen=True)
class Trial:
    """One repetition of one row against one peer.

    Attributes:
        peer: Whom to ask.
        videos: The videos to read; those of a row with `fresh_videos` were never read through this peer.
        rng: Seeded by row and repetition, so that every peer gets the same offsets.
        source: The file that uploads send.
        made: Where a trial that uploads puts its videos, to be checked and removed.
    """

    peer: Peer
    videos: list[StoredVideo]
    rng: random.Random
    source: Path
    made: list[StoredVideo] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What one trial gave: the client's load, or values of the row's own.

    Attributes:
        load: What the client saw.
        values: The row's own figures.
        by_process: What part of the first of them each process of the peer has.
    """

    load: Load | None = None
    values: dict[Metric, float] = field(default_factory=dict)
    by_process: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One thing that is measured.

    Attributes:
        id: Dotted, unique, beginning with the subject's name.
        title: For people.
        metrics: The columns it fills.
        measure: Runs the load once.
        prepare: Runs before the clock and the CPU counters, for every trial.
        fresh_videos: How many videos, never read before, a repetition gets; 0: the one that all hot rows share.
        peers: Names of the peers it is for.
        restart: Start the peer anew before each trial.
    """

    id: str
    title: str
    metrics: tuple[Metric, ...]
    measure: Callable[[Trial], Outcome | Awaitable[Outcome]]
    prepare: Callable[[Trial], None] = lambda trial: None
    fresh_videos: int = 0
    peers: tuple[str, ...] = ("s3", "nginx", "fastapi", OURS)
    restart: bool = False


class Bound(enum.Enum):
    """How a target reads a ratio of ours to a peer's."""

    AT_LEAST = "≥"  # ours / theirs
    AT_MOST = "≤"  # ours / theirs
    FASTER = "faster"  # theirs / ours, of a time


@dataclass(frozen=True)
class Target:
    """What a row must reach against one peer, or by itself where `peer` is empty."""

    row: str
    metric: Metric
    peer: str
    bound: Bound
    value: float

    @property
    def text(self) -> str:
        """As in the table of targets."""
        if not self.peer:
            return f"≤ {self.value:g} {self.metric.value}"
        if self.bound is Bound.FASTER:
            return f"≥ {self.value:g} × faster"
        return f"{self.bound.value} {self.value:g} ×"

    def ratio(self, ours: float, theirs: float) -> float:
        """What is compared with `value`."""
        return theirs / ours if self.bound is Bound.FASTER else ours / theirs

    def reached(self, ratio: float) -> bool:
        """Whether that is enough."""
        return ratio <= self.value if self.bound is Bound.AT_MOST else ratio >= self.value


def targets(row: str, metric: Metric, **bounds: tuple[Bound, float]) -> tuple[Target, ...]:
    """Targets of one row against several peers, given as `peer=(bound, value)`."""
    return tuple(Target(row, metric, peer, bound, value) for peer, (bound, value) in bounds.items())
