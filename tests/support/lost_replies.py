"""Redis and the store where one answer gets lost: what was asked for is done, and nobody hears of it."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from aiobotocore.client import AioBaseClient
from botocore.exceptions import ConnectionClosedError
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.s3_bytes import S3Bytes

_FAILURES: list[tuple[type[Any], str, Exception]] = [
    (Redis, "execute_command", RedisConnectionError("lost")),
    (Pipeline, "execute", RedisConnectionError("lost")),
    (AioBaseClient, "_make_api_call", ConnectionClosedError(endpoint_url="lost")),
    (S3Bytes, "put", ReelwayError(ErrorReason.STORE_UNAVAILABLE)),
]


@dataclass
class Calls:
    """How many of the calls were made for which somebody waits."""

    made: int = 0


@contextlib.contextmanager
def reply_lost(number: int) -> Iterator[Calls]:
    """The answer to call `number` (from 1) of all clients together is lost, however often they repeat it."""
    calls = Calls()

    def losing(call: Callable[..., Any], failure: Exception) -> Callable[..., Any]:
        async def lossy(*args: Any, **options: Any) -> Any:
            calls.made += 1
            lost = calls.made == number
            answer = await call(*args, **options)
            if lost:
                raise failure
            return answer

        return lossy

    with contextlib.ExitStack() as stack:
        for owner, name, failure in _FAILURES:
            stack.enter_context(patch.object(owner, name, losing(getattr(owner, name), failure)))
        yield calls
