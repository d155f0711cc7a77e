"""Appending in chunks beside tus: the same file, chunk size and S3, each driven from Node, one after the other."""

import tempfile
from functools import partial
from pathlib import Path
from typing import cast

from bench.peers.counting import counting_proxy
from bench.peers.reelway import Reelway
from bench.peers.tus import tus_server, upload_in_chunks
from bench.registry import OURS, Bound, Metric, Outcome, Row, Target, Trial

MIB = 2**20


def beside_tus(chunk: int, total: int, trial: Trial) -> Outcome:
    """Append the file to a video of ours, and upload it to tus."""
    ours = cast(Reelway, trial.peer)
    processes = ours.processes
    host, port = ours.address
    # Its first upload opens connections and warms caches, here as there.
    upload_in_chunks("append", f"http://{host}:{port}", trial.source, chunk, chunk)
    before = sum(processes.cpu_by_process().values())
    our_seconds = upload_in_chunks("append", f"http://{host}:{port}", trial.source, chunk, total)
    our_cpu = sum(processes.cpu_by_process().values()) - before
    with tus_server(ours.storage.env) as tus:
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


async def requests_beside_tus(chunk: int, total: int, trial: Trial) -> Outcome:
    """The same once more, each through a proxy that counts what it asks of S3; nothing is timed."""
    peer = cast(Reelway, trial.peer)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        async with counting_proxy(peer.storage, folder / "proxy") as proxy:
            ours = Reelway(peer.storage, folder / "reelway", S3_ENDPOINT_URL=proxy.url)
            await ours.start()
            try:
                host, port = ours.address
                before = proxy.requests()
                upload_in_chunks("append", f"http://{host}:{port}", trial.source, chunk, total)
                our_requests = proxy.requests() - before
            finally:
                await ours.stop()
            with tus_server(peer.storage.env | {"S3_ENDPOINT_URL": proxy.url}) as tus:
                before = proxy.requests()
                upload_in_chunks("tus", tus.url, trial.source, chunk, total)
                tus_requests = proxy.requests() - before
    return Outcome(
        values={
            Metric.S3_REQUESTS: our_requests,
            Metric.TUS_S3_REQUESTS: tus_requests,
            Metric.REQUESTS_OF_TUS: our_requests / tus_requests,
        }
    )


_REQUEST_METRICS = (Metric.S3_REQUESTS, Metric.TUS_S3_REQUESTS, Metric.REQUESTS_OF_TUS)
_METRICS = (Metric.APPEND_MIB_PER_SECOND, Metric.TUS_MIB_PER_SECOND, Metric.TIME_OF_TUS, Metric.CPU_OF_TUS)

_SIZES = (
    ("large", "append 256 MiB in chunks of 8 MiB", 8 * MIB, 256 * MIB),
    ("small", "append 5 MiB in chunks of 20 KB", 20_000, 5 * MIB),
)
_TIMED = tuple(
    Row(f"appends.{name}", title, _METRICS, partial(beside_tus, chunk, total), peers=(OURS,))
    for name, title, chunk, total in _SIZES
)
_COUNTED = tuple(
    Row(
        f"appends.requests.{name}",
        f"{title}: what is asked of S3",
        _REQUEST_METRICS,
        partial(requests_beside_tus, chunk, total),
        peers=(OURS,),
    )
    for name, title, chunk, total in _SIZES
)
ROWS = _TIMED + _COUNTED

TARGETS: tuple[Target, ...] = tuple(
    Target(row.id, metric, "", Bound.AT_MOST, most)
    for row in _TIMED
    # 2.4 times its throughput, half its CPU.
    for metric, most in ((Metric.TIME_OF_TUS, 0.42), (Metric.CPU_OF_TUS, 0.5))
)
