"""gRPC's newer engine is not the one that moves the bytes; the older one does not end before its process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from services.common import grpc_engine

CALLS = 200


def _switches(thread_name: str) -> int:
    """How often the threads of this name were woken."""
    woken = 0
    for thread in Path("/proc/self/task").iterdir():
        if (thread / "comm").read_text().strip() == thread_name:
            lines = (thread / "status").read_text().splitlines()
            woken += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return woken


async def test_bytes_are_moved_without_the_newer_engines_threads() -> None:
    async def read(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(CALLS):
            yield bytes(2**16)

    assert os.environ[grpc_engine.VARIABLE].startswith("-event_engine")
    server = grpc.aio.server()
    handler: Any = grpc.unary_stream_rpc_method_handler(read)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Bytes", {"Read": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        before = _switches("event_engine")
        stub: Any = channel.unary_stream("/Bytes/Read")
        received = [len(message) async for message in stub(b"")]
        woken = _switches("event_engine") - before
    await server.stop(0)
    assert received == [2**16] * CALLS
    # With it there are several for each message; its timers still wake it now and then.
    assert woken < CALLS / 4


_LIVES_ON = """
import contextlib
import grpc
from pathlib import Path
from services.common import process
from services.common.settings import Settings

async def main(settings):
    async with grpc.aio.insecure_channel("127.0.0.1:1"):
        pass

process.run("test", Settings, main)
for thread in Path("/proc/self/task").iterdir():
    with contextlib.suppress(OSError):  # it has ended since it was listed
        print((thread / "comm").read_text())
"""


def test_it_outlives_the_last_channel() -> None:
    """Its threads may have work, and crash the process where gRPC has ended."""
    done = subprocess.run([sys.executable, "-c", _LIVES_ON], capture_output=True, text=True, check=True)
    assert "grpc_global_tim" in done.stdout.split()
