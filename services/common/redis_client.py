"""The Redis connection of a process, and what its failures mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.settings import RedisSettings

_CONNECTIONS = 64


def connect(settings: RedisSettings, *, text: bool = True) -> redis.Redis:
    """A pooled client, with `text` or bytes as answers; commands bounded, reconnecting pauses at most 0.5 s.

    A flood waits for one of the connections; the plain pool refuses what comes beyond its size.
    """
    pool = redis.BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=_CONNECTIONS,
        timeout=settings.redis_timeout_seconds,
        decode_responses=text,
        socket_timeout=settings.redis_timeout_seconds,
        socket_connect_timeout=settings.redis_timeout_seconds,
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=4),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
        client_name="reelway",
    )
    return redis.Redis.from_pool(pool)


@contextlib.contextmanager
def redis_errors() -> Iterator[None]:
    """Turns what Redis raises into the reason a client may know; a script's own error passes through."""
    try:
        yield
    except ResponseError as error:
        if str(error).startswith(("LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "OOM", "MISCONF")):
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE) from error
        raise
    except RedisError as error:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE) from error
