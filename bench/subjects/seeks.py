"""Seeks: how long 64 KiB at a random place take, alone and among others."""

from bench import load
from bench.registry import Bound, Metric, Outcome, Row, Target, Trial, targets
from bench.subjects.ranges import MIB, scattered
from bench.subjects.reads import warm

SEEK_BYTES = 64 * 1024
VIEWERS = (1, 16, 64)
METRICS = (Metric.P50_MS, Metric.P99_MS, Metric.MIB_PER_SECOND, Metric.CPU_SECONDS_PER_GIB)
HOT_ROUNDS = 4  # hot seeks are short; more of them steady the figures


def _seeks(viewers: int, hot: bool) -> Row:
    def measure(trial: Trial) -> Outcome:
        requests = scattered(trial.peer, trial.videos, SEEK_BYTES, trial.rng, MIB)
        return Outcome(load.read(trial.peer.address, requests * (HOT_ROUNDS if hot else 1), viewers))

    kind = "hot" if hot else "cold"
    return Row(
        f"seeks.{kind}.{viewers}",
        f"64 KiB seek, {viewers} viewer{'s' if viewers > 1 else ''}, {kind}",
        METRICS,
        measure,
        warm if hot else lambda trial: None,
        0 if hot else 1,
    )


ROWS = tuple(_seeks(viewers, hot) for hot in (False, True) for viewers in VIEWERS)

TARGETS: tuple[Target, ...] = (
    *targets(
        "seeks.cold.1",
        Metric.P50_MS,
        s3=(Bound.AT_MOST, 2.5),
        nginx=(Bound.AT_MOST, 2),
        fastapi=(Bound.FASTER, 2),
    ),
    *targets(
        "seeks.hot.1",
        Metric.P50_MS,
        s3=(Bound.FASTER, 5),
        nginx=(Bound.FASTER, 6),
        fastapi=(Bound.FASTER, 20),
    ),
)
