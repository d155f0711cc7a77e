"""Appending in chunks beside tus: the same file, chunk size and S3, each driven from Node, one after the other."""

from functools import partial
from typing import cast

from bench.peers.reelway import Reelway
from bench.peers.tus import tus_server, upload_in_chunks
from bench.registry import OURS, Bound, Metric, Outcome, Row, Target, Trial

MIB = 2**20


def beside_tus(chunk: int, total: int, trial: Trial) -> Outcome:
    """Append the file to a video of ours, and upload it to tus."""
    ours = cast(Reelway, trial.peer)
    processes = ours.processes
    assert processes is not None
    host, port = ours.address
    # Its first upload opens connections and warms caches, here as there.
    upload_in_chunks("append", f"http://{host}:{port}", trial.source, chunk, chunk)
    before = sum(processes.cpu_by_process().values())
    our_seconds = upload_in_chunks("append", f"http://{host}:{port}", trial.source, chunk, total)
    our_cpu = sum(processes.cpu_by_process().values()) - before
    with tus_server(ours.storage_environment) as tus:
        # Its first upload compiles its code.
        upload_in_chunks("tus", tus.url, trial.source, chunk, chunk)
        before = sum(tus.processes.cpu_by_process().values())
        tus_seconds = upload_in_chunks("tus", tus.url, trial.source, chunk, total)
        tus_cpu = sum(tus.processes.cpu_by_process().values()) - before
    return Outcome(
        values={
            Metric.APPEND_MIB_PER_SECOND: total / MIB / our_seconds,
            Metric.TUS_MIB_PER_SECOND: total / MIB / tus_seconds,
            Metric.TIME_OF_TUS: our_seconds / tus_seconds,
            Metric.CPU_OF_TUS: our_cpu / tus_cpu,
        }
    )


_METRICS = (Metric.APPEND_MIB_PER_SECOND, Metric.TUS_MIB_PER_SECOND, Metric.TIME_OF_TUS, Metric.CPU_OF_TUS)

ROWS = (
    Row(
        "appends.large",
        "append 256 MiB in chunks of 8 MiB",
        _METRICS,
        partial(beside_tus, 8 * MIB, 256 * MIB),
        peers=(OURS,),
    ),
    Row(
        "appends.small",
        "append 5 MiB in chunks of 20 KB",
        _METRICS,
        partial(beside_tus, 20_000, 5 * MIB),
        peers=(OURS,),
    ),
)

TARGETS: tuple[Target, ...] = tuple(
    Target(row.id, metric, "", Bound.AT_MOST, most)
    for row in ROWS
    # 2.4 times its throughput, half its CPU.
    for metric, most in ((Metric.TIME_OF_TUS, 0.42), (Metric.CPU_OF_TUS, 0.5))
)
