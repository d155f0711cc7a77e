"""Prometheus metrics that every process has, and their page."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from services.common.settings import host_and_port, refuse

DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Bounds of histograms, in seconds: from an answer out of memory to an upload."""

RPC_STARTED = Counter("reelway_rpc_started_total", "RPCs begun", ["method"])
RPC_HANDLED = Counter("reelway_rpc_handled_total", "RPCs ended, by status", ["method", "code"])
RPC_SECONDS = Histogram("reelway_rpc_seconds", "Duration of RPCs", ["method"], buckets=DURATIONS)
RPC_IN_FLIGHT = Gauge("reelway_rpc_in_flight", "RPCs under way", ["method"])
RPC_ANSWER_BYTES = Gauge("reelway_rpc_answer_bytes", "Bytes of answers to RPCs that are not sent")
BYTES = Counter("reelway_bytes_total", "Bytes of videos moved", ["direction"])
LOOP_LAG = Histogram("reelway_loop_lag_seconds", "How late the event loop came to a timer", buckets=DURATIONS)

_LAG_LOOK_SECONDS = 0.5


async def watch_loop() -> None:
    """For ever: see how late the event loop is, which whatever does not let go of it makes late for everybody."""
    while True:
        due = time.perf_counter() + _LAG_LOOK_SECONDS
        await asyncio.sleep(_LAG_LOOK_SECONDS)
        LOOP_LAG.observe(max(time.perf_counter() - due, 0))


def serve_metrics(listen: str) -> None:
    """Serve /metrics on `host:port`, in a thread of its own; an empty `listen` serves nothing."""
    if listen:
        host, port = host_and_port(listen)
        try:
            start_http_server(port, addr=host)
        except OSError as error:
            refuse(f"METRICS_LISTEN: cannot listen on {listen}: {error.strerror}")
