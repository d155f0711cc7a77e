"""Lets a drain end calls of health and reflection.

Their streams go on until the client ends them, and the message of a single request may never come.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import grpc

from services.common import tasks
from services.common.method_handlers import behaviour_of, with_behaviour

MOST = 1000
"""Under way in a process: each connection of a client that looks at health has one (server.py bounds those)."""


def ended_by(drained: asyncio.Event, handler: Any, going: set[asyncio.Task[Any]]) -> Any:
    """The same method; it ends, in order where it streams, once `drained` is set, and is refused beside `MOST` others.

    `going` has all of them.
    """
    call = behaviour_of(handler)

    async def answer(requests: Any, context: Any) -> Any:
        request = requests if handler.request_streaming else await context.read()
        if request is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The message is missing")
        answers = call(request, context)
        # The library has both forms.
        if not inspect.isasyncgen(answers):
            return await answers
        async for response in answers:
            await context.write(response)
        return None

    async def monitored(requests: Any, context: Any) -> Any:
        if len(going) >= MOST:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many such calls are under way")
        answering, end = asyncio.create_task(answer(requests, context)), asyncio.create_task(drained.wait())
        # It fails where its client goes while it writes, and nobody is left to hear of it.
        answering.add_done_callback(tasks.look_at)
        going.add(answering)
        answering.add_done_callback(going.discard)
        try:
            await asyncio.wait((answering, end), return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                return await answering
            if not handler.response_streaming:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "The process ends")
        finally:
            await tasks.end(answering, end)

    return with_behaviour(handler, monitored, handler.request_deserializer, handler.response_serializer)
