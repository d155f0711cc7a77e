"""Work on a video that ends soon after the video is deleted: others wait for its slot, and nobody for its result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from services.common import tasks
from services.common.errors import ReelwayError

_Result = TypeVar("_Result")

# Pause between two looks.
_LOOK_SECONDS = 10.0


async def while_there(work: Coroutine[Any, Any, _Result], look: Callable[[], Awaitable[object]]) -> _Result:
    """What `work` brings. It is ended by what `look` raises, but for a ReelwayError: then nobody knows."""
    working, watching = asyncio.create_task(work), asyncio.create_task(_watch(look))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        return await (working if working.done() else watching)
    finally:
        # A second cancellation must not free the folder of a program that still writes into it.
        await tasks.undisturbed(tasks.end(working, watching))


async def _watch(look: Callable[[], Awaitable[object]]) -> NoReturn:
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        with contextlib.suppress(ReelwayError):
            await look()
