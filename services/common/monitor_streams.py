"""Streams of health and reflection, which go on until their client ends them: a drain must not wait for that."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from services.common import tasks
from services.common.method_handlers import behaviour_of, with_behaviour


def ended_by(drained: asyncio.Event, handler: Any) -> Any:
    """The same method; one that streams ends, in order, once `drained` is set."""
    if not handler.response_streaming:
        return handler
    call = behaviour_of(handler)

    async def answer(request: Any, context: Any) -> None:
        answers = call(request, context)
        # The library has both forms.
        if not inspect.isasyncgen(answers):
            await answers
            return
        async for response in answers:
            await context.write(response)

    async def stream(request: Any, context: Any) -> None:
        answering, end = asyncio.create_task(answer(request, context)), asyncio.create_task(drained.wait())
        # It breaks, where its client goes while it writes.
        answering.add_done_callback(tasks.look_at)
        try:
            await asyncio.wait((answering, end), return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                await answering
        finally:
            await tasks.end(answering, end)

    return with_behaviour(handler, stream, handler.request_deserializer)
