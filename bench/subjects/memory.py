"""Memory: what a viewer costs who asks for a video and never reads it."""

import time
from dataclasses import replace

from bench import load
from bench.registry import OURS, Bound, Metric, Outcome, Row, Target, Trial
from bench.subjects.reads import warm

VIEWERS = 100
SETTLED_BYTES = 2**20
SETTLE_SECONDS = (2.0, 15.0)  # at least, at most
LOOK_SECONDS = 0.25


def prepare(trial: Trial) -> None:
    """Fill caches with videos that nobody asks for again, so that their growth is not taken for the viewers'."""
    warm(replace(trial, videos=trial.videos[1:]))


def growth_per_viewer(trial: Trial) -> Outcome:
    """Let each viewer ask for the rest of the video from a place of its own; see how far resident memory grows."""
    processes = trial.peer.processes
    video = trial.videos[0]
    starts = [index * (video.size // (2 * VIEWERS)) for index in range(VIEWERS)]
    requests = [trial.peer.get(video, start, video.size - start) for start in starts]
    before = processes.rss_by_process()
    with load.stalled(trial.peer.address, requests):
        began = time.monotonic()
        history = [processes.rss_by_process()]
        per_second = int(1 / LOOK_SECONDS)
        while time.monotonic() - began < SETTLE_SECONDS[1]:
            time.sleep(LOOK_SECONDS)
            history.append(processes.rss_by_process())
            a_second_ago = history[max(0, len(history) - 1 - per_second)]
            settled = abs(sum(history[-1].values()) - sum(a_second_ago.values())) < SETTLED_BYTES
            if settled and time.monotonic() - began > SETTLE_SECONDS[0]:
                break
    peak = max(history, key=lambda moment: sum(moment.values()))
    growth = {name: (peak[name] - before[name]) / 2**20 / VIEWERS for name in before}
    return Outcome(values={Metric.MIB_PER_VIEWER: sum(growth.values())}, by_process=growth)


ROWS = (
    Row(
        "memory.stalled",
        f"{VIEWERS} viewers who ask and never read",
        (Metric.MIB_PER_VIEWER, Metric.PEAK_RSS_MIB),
        growth_per_viewer,
        prepare,
        fresh_videos=2,
        peers=("nginx", "fastapi", OURS),
        restart=True,
    ),
)

TARGETS: tuple[Target, ...] = (Target("memory.stalled", Metric.MIB_PER_VIEWER, "", Bound.AT_MOST, 5),)
