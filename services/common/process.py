"""How each of our processes starts, whatever it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from services.common import allocator, caller, fault_points, grpc_engine, logs, metrics, open_files, tasks
from services.common.settings import S, ServiceSettings, load


def run(name: str, settings_class: type[S], main: Callable[[S], Coroutine[Any, Any, None]]) -> None:
    """Load the settings, set up logs and the event loop, and run `main` to its end; what a `__main__` calls."""
    settings = load(settings_class)
    allocator.keep_large_buffers()
    grpc_engine.keep()
    open_files.raise_limit()
    caller.require_tokens(settings.service_token_secret.get_secret_value())
    logs.configure(name, settings.log_level, settings.log_format)
    if isinstance(settings, ServiceSettings):
        fault_points.arm(settings.fault_point)
    if settings.event_loop == "uvloop":
        import uvloop  # noqa: PLC0415 - only where it is asked for

        uvloop.run(_watched(main(settings)))
    else:
        asyncio.run(_watched(main(settings)))


async def _watched(work: Coroutine[Any, Any, None]) -> None:
    watching = asyncio.create_task(metrics.watch_loop())
    try:
        await work
    finally:
        await tasks.end(watching)
