"""The Redis connection of a process, and what its failures mean."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, NoScriptError, ReadOnlyError, RedisError, ResponseError

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.settings import RedisSettings, refuse

_CONNECTIONS = 64
# Codes of a server that cannot serve just now: it starts or stops, is full, has lost its peers, or our user lacks a
# right until an operator grants it. NOSCRIPT, of a script that was loaded a moment before, and a cluster's MOVED:
# another server has taken over.
_FOR_NOW = {
    "BUSY",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOPERM",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
    "TRYAGAIN",
}
# The same without a code: of a cluster that is full, its bus among the connections; of rights within a script.
_FOR_NOW_TOO = ("max number of clients", "ACL failure in script")


def connect(settings: RedisSettings, *, text: bool = True) -> redis.Redis:
    """A pooled client, with `text` or bytes as answers; commands bounded, reconnecting pauses at most 0.5 s.

    Where all connections are taken callers wait for one; the plain pool would refuse them. An unknown option in the URL
    ends the process with one line.
    """
    try:
        pool = redis.BlockingConnectionPool.from_url(
            settings.redis_url,
            max_connections=_CONNECTIONS,
            timeout=settings.redis_timeout_seconds,
            decode_responses=text,
            socket_timeout=settings.redis_timeout_seconds,
            socket_connect_timeout=settings.redis_timeout_seconds,
            # No health checks before commands: these retry by themselves within each of our tries, five times as often.
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=4),
            # A former primary keeps its connections; behind the same address there is another one by now.
            retry_on_error=[ReadOnlyError, MovedError],
            client_name="reelway",
        )
        # Made, not connected: only its constructor checks the options of the URL.
        pool.connection_class(**pool.connection_kwargs)
    except (RedisError, TypeError, ValueError) as error:
        refuse(f"REDIS_URL: {error}")
    return redis.Redis.from_pool(pool)


def _code(error: ResponseError) -> str:
    """The code of the answer: redis-py removes those that it knows, and puts words of its own in front."""
    if isinstance(error, NoScriptError):
        return "NOSCRIPT"
    found = re.match(r"(?:.*caused error: \(.)?([A-Z]+) ", str(error), re.DOTALL)
    return error.status_code or (found[1] if found else "")


def _is_for_now(error: ResponseError) -> bool:
    return _code(error) in _FOR_NOW or str(error).startswith(_FOR_NOW_TOO)


@contextlib.contextmanager
def redis_errors() -> Iterator[None]:
    """Around every call of Redis: turns what it raises into the reason a client may know.

    A script's own error passes through. A cancellation of the task always comes out: the client sends by
    asyncio.wait_for, which loses one that comes as its work ends (Python 3.11), and the task would go on for nobody.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    failure: RedisError | None = None
    try:
        yield
    except RedisError as error:
        failure = error
    except RuntimeError as error:
        # uvloop's word for a connection that was closed before it was written to; the client knows asyncio's alone.
        if "the handler is closed" not in str(error):
            raise
        failure = RedisConnectionError(str(error))
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError from failure
    if isinstance(failure, ResponseError) and not _is_for_now(failure):
        raise failure
    if failure is not None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE) from failure
