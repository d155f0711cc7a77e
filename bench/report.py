"""From observations to tables."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.lab import Observation
from bench.load import percentile
from bench.registry import OURS, Metric, Row, Target

Results = Mapping[str, Mapping[str, Sequence[Observation]]]  # row id → peer → repetitions


@dataclass(frozen=True)
class Verdict:
    """One target, measured."""

    target: Target
    title: str
    ratio: float
    reached: bool


def value(metric: Metric, observations: Sequence[Observation]) -> float | None:
    """One figure from all repetitions: medians; CPU as the sum over the sum; memory as the worst.

    None: the peer has no such figure.
    """
    loads = [observation.load for observation in observations if observation.load is not None]
    if metric is Metric.MIB_PER_SECOND and loads:
        return statistics.median(load.mib_per_second for load in loads)
    if metric is Metric.P50_MS and loads:
        return statistics.median(percentile(load.latency_ms, 50) for load in loads)
    if metric is Metric.P99_MS and loads:
        # Over all repetitions: one alone has too few requests for a 99th percentile.
        return percentile([latency for load in loads for latency in load.latency_ms], 99)
    if metric is Metric.CPU_SECONDS_PER_GIB and loads:
        seconds = [observation.cpu_seconds for observation in observations if observation.cpu_seconds is not None]
        return sum(seconds) / (sum(load.bytes for load in loads) / 2**30) if seconds else None
    if metric is Metric.PEAK_RSS_MIB:
        peaks = [observation.peak_rss_bytes for observation in observations if observation.peak_rss_bytes]
        return max(peaks) / 2**20 if peaks else None
    own = [observation.values[metric.value] for observation in observations if metric.value in observation.values]
    if not own:
        return None
    return max(own) if metric is Metric.MIB_PER_VIEWER else statistics.median(own)


def verdicts(rows: Sequence[Row], targets: Sequence[Target], results: Results) -> list[Verdict]:
    """Every target whose row and peer were measured."""
    found = []
    for row in rows:
        for target in (target for target in targets if target.row == row.id):
            measured = results[row.id]
            ours = value(target.metric, measured.get(OURS, ()))
            theirs = value(target.metric, measured.get(target.peer, ())) if target.peer else 1.0
            if ours is not None and theirs is not None:
                ratio = target.ratio(ours, theirs)
                found.append(Verdict(target, row.title, ratio, target.reached(ratio)))
    return found


def target_table(found: Sequence[Verdict], titles: Mapping[str, str]) -> str:
    """The targets, one line each."""
    lines = ["| what | against | measured | target | |", "|---|---|---|---|---|"]
    for verdict in found:
        target = verdict.target
        against = titles[target.peer] if target.peer else "–"
        unit = " ×" if target.peer else f" {target.metric.value}"
        what = verdict.title if target.metric is not Metric.CPU_SECONDS_PER_GIB else f"{verdict.title}: CPU"
        mark = "reached" if verdict.reached else "**not reached**"
        lines.append(f"| {what} | {against} | {number(verdict.ratio)}{unit} | {target.text} | {mark} |")
    return "\n".join(lines)


def row_table(row: Row, measured: Mapping[str, Sequence[Observation]], titles: Mapping[str, str]) -> str:
    """One row: the peers, and their figures; our ratio to each peer in the first column of figures."""
    first = row.metrics[0]
    ours = value(first, measured.get(OURS, ()))
    lines = [
        f"**{row.title}** (`{row.id}`)\n",
        "| | " + " | ".join(metric.value for metric in row.metrics) + f" | Reelway's {first.value} |",
        "|---" * (len(row.metrics) + 2) + "|",
    ]
    for name, observations in measured.items():
        figures = [value(metric, observations) for metric in row.metrics]
        theirs = figures[0]
        ratio = "" if name == OURS or not ours or not theirs else f"{number(ours / theirs)} ×"
        lines.append(f"| {titles[name]} | " + " | ".join(number(figure) for figure in figures) + f" | {ratio} |")
    return "\n".join(lines) + split(row, measured.get(OURS, ()))


def split(row: Row, observations: Sequence[Observation]) -> str:
    """Which of our processes the CPU time went to, or the row's own figure."""
    if not observations:
        return ""
    total = sum(observation.load.bytes for observation in observations if observation.load) / 2**30
    heading = Metric.CPU_SECONDS_PER_GIB if total else row.metrics[0]
    shares = {
        name: sum(observation.by_process[name] for observation in observations) / (total or len(observations))
        for name in observations[0].by_process
    }
    text = ", ".join(f"{name} {number(share)}" for name, share in shares.items() if share >= 0.01)
    return f"\n\nReelway's {heading.value} by process: {text}." if text else ""


def client_share(results: Results) -> tuple[str, float]:
    """The row where the load client was busiest, and what share of one core it took there."""
    shares = [
        (f"{row}, {peer}", observation.load.client_cpu_seconds / observation.load.seconds)
        for row, measured in results.items()
        for peer, observations in measured.items()
        for observation in observations
        if observation.load
    ]
    return max(shares, key=lambda share: share[1], default=("–", 0.0))


def number(figure: float | None) -> str:
    """Three significant digits."""
    if figure is None:
        return "–"
    if abs(figure) >= 100:
        return f"{figure:.0f}"
    return f"{figure:.1f}" if abs(figure) >= 10 else f"{figure:.2f}"


def document(
    rows: Sequence[Row], results: Results, found: Sequence[Verdict], titles: Mapping[str, str], facts: Sequence[str]
) -> str:
    """The whole report in Markdown; `facts` are those of the machine and the run."""
    busiest, share = client_share(results)
    parts = [
        "# Benchmark\n",
        "Made by `make bench`. Only the ratios mean anything: all peers share the machine, the S3 and the run, "
        "take turns, and the figures are medians (p99: over all requests of a row; CPU: all seconds over all "
        "bytes; memory: the worst).\n",
        "\n".join(f"- {line}" for line in facts) + "\n",
        f"The load client took at most {share:.0%} of one core ({busiest}).\n",
        "*Cold*: ranges of a video that was uploaded for this repetition and that the peer never read, at most one "
        "range in each MiB; S3's own page cache is warm for everybody. *Hot*: the video was read to its end again and "
        "again just before; only Reelway keeps anything. *Upload*: to S3 in parts, three at once, through nginx as one "
        "PUT, else as a multipart form. CPU and memory are those of the processes between client and S3.\n",
    ]
    if found:
        missed = sum(not verdict.reached for verdict in found)
        parts += [
            "## Targets\n",
            target_table(found, titles) + "\n",
            f"{len(found) - missed} of {len(found)} reached.\n",
        ]
    parts += ["## Figures\n", *(row_table(row, results[row.id], titles) + "\n" for row in rows)]
    return "\n".join(parts)
