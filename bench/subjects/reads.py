"""Reads for throughput: one bulk stream, and many viewers of random ranges of 1 MiB."""

from bench import load
from bench.registry import Bound, Metric, Outcome, Row, Target, Trial, targets
from bench.subjects.ranges import MIB, scattered

RANGE_METRICS = (Metric.MIB_PER_SECOND, Metric.P50_MS, Metric.P99_MS, Metric.CPU_SECONDS_PER_GIB, Metric.PEAK_RSS_MIB)
BULK_METRICS = (Metric.MIB_PER_SECOND, Metric.CPU_SECONDS_PER_GIB, Metric.PEAK_RSS_MIB)
# A video has 128 ranges that share no MiB; enough videos that every viewer asks twice or more.
FRESH_VIDEOS = {16: 2, 64: 2, 256: 4}
WARM_READINGS = 12
# What is in memory is given in a tenth of a second; to open the connections takes longer.
HOT_ROUNDS = 4


def warm(trial: Trial) -> None:
    """Read the whole video often enough for each of several processes that share a port to have read it twice.

    Many caches keep nothing that was read once. Each reading has a connection of its own, because the kernel chooses
    who gets it; one after the other, because what many at once leave in the heap would hide what a row then takes.
    """
    if trial.peer.caches:
        requests = [trial.peer.get(video) for video in trial.videos]
        for _ in range(WARM_READINGS):
            load.read(trial.peer.address, requests, 1)


def bulk(trial: Trial) -> Outcome:
    """One viewer reads a video from end to end."""
    return Outcome(load.read(trial.peer.address, [trial.peer.get(trial.videos[0])], 1))


def _ranges(viewers: int, hot: bool) -> Row:
    def measure(trial: Trial) -> Outcome:
        requests = scattered(trial.peer, trial.videos, MIB, trial.rng, 2 * MIB)
        if hot:
            requests *= FRESH_VIDEOS[viewers] * HOT_ROUNDS
        return Outcome(load.read(trial.peer.address, requests, viewers))

    kind = "hot" if hot else "cold"
    return Row(
        f"reads.ranges.{kind}.{viewers}",
        f"random 1 MiB ranges, {viewers} viewers, {kind}",
        RANGE_METRICS,
        measure,
        warm if hot else lambda trial: None,
        0 if hot else FRESH_VIDEOS[viewers],
    )


ROWS = (
    Row("reads.bulk.cold", "one stream of the whole object, cold", BULK_METRICS, bulk, fresh_videos=1),
    Row("reads.bulk.hot", "one stream of the whole object, hot", BULK_METRICS, bulk, warm),
    *(_ranges(viewers, hot) for hot in (False, True) for viewers in FRESH_VIDEOS),
)

TARGETS: tuple[Target, ...] = (
    *targets(
        "reads.bulk.cold",
        Metric.MIB_PER_SECOND,
        s3=(Bound.AT_LEAST, 0.5),
        nginx=(Bound.AT_LEAST, 0.55),
        fastapi=(Bound.AT_LEAST, 0.6),
    ),
    *(
        target
        for viewers in FRESH_VIDEOS
        for target in targets(
            f"reads.ranges.cold.{viewers}",
            Metric.MIB_PER_SECOND,
            s3=(Bound.AT_LEAST, 0.55),
            nginx=(Bound.AT_LEAST, 0.6),
            fastapi=(Bound.AT_LEAST, 1.4),
        )
    ),
    *(
        target
        for viewers in FRESH_VIDEOS
        for target in targets(
            f"reads.ranges.hot.{viewers}",
            Metric.MIB_PER_SECOND,
            s3=(Bound.AT_LEAST, 5),
            nginx=(Bound.AT_LEAST, 6),
            fastapi=(Bound.AT_LEAST, 12),
        )
    ),
)
