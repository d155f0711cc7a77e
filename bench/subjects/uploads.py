"""Uploads: the form that browsers and curl send, against S3's own ways."""

from bench.registry import Bound, Metric, Outcome, Row, Target, Trial, targets


def upload(trial: Trial) -> Outcome:
    """Upload the source file."""
    done, video = trial.peer.upload(trial.source)
    trial.made.append(video)
    return Outcome(done)


ROWS = (
    Row(
        "uploads.form",
        "upload",
        (Metric.MIB_PER_SECOND, Metric.CPU_SECONDS_PER_GIB, Metric.PEAK_RSS_MIB),
        upload,
    ),
)

TARGETS: tuple[Target, ...] = (
    *targets(
        "uploads.form",
        Metric.MIB_PER_SECOND,
        s3=(Bound.AT_LEAST, 0.6),
        nginx=(Bound.AT_LEAST, 0.8),
        fastapi=(Bound.AT_LEAST, 1.6),
    ),
    *targets("uploads.form", Metric.CPU_SECONDS_PER_GIB, fastapi=(Bound.AT_MOST, 0.65)),
)
