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
# What a server says that cannot serve just now: on its way up or down, full, left by its peers, or with other rights of
# its user than we need, until somebody mends those.
# NOSCRIPT, of a script that was loaded a moment before: another server has taken over, as with MOVED, of a cluster.
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
# The same without a code: full, in a cluster's own words, with its bus among the connections; rights, of a script.
_FOR_NOW_TOO = ("max number of clients", "ACL failure in script")


def connect(settings: RedisSettings, *, text: bool = True) -> redis.Redis:
    """A pooled client, with `text` or bytes as answers; commands bounded, reconnecting pauses at most 0.5 s.

    A flood waits for one of the connections; the plain pool refuses what comes beyond its size. Options in the URL that
    there are not end the process with one line.
    """
    try:
        pool = redis.BlockingConnectionPool.from_url(
            settings.redis_url,
            max_connections=_CONNECTIONS,
            timeout=settings.redis_timeout_seconds,
            decode_responses=text,
            socket_timeout=settings.redis_timeout_seconds,
            socket_connect_timeout=settings.redis_timeout_seconds,
            # And no health checks before commands: they have retries of their own inside of these, five times as many.
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=4),
            # A former primary keeps its connections; behind the same address there is another one by now.
            retry_on_error=[ReadOnlyError, MovedError],
            client_name="reelway",
        )
        # Made, not connected: it alone knows which options a URL may have.
        pool.connection_class(**pool.connection_kwargs)
    except (RedisError, TypeError, ValueError) as error:
        refuse(f"REDIS_URL: {error}")
    return redis.Redis.from_pool(pool)


def _code(error: ResponseError) -> str:
    """What the answer began with: redis-py cuts off the codes that it knows, and puts words of its own in front."""
    if isinstance(error, NoScriptError):
        return "NOSCRIPT"
    found = re.match(r"(?:.*caused error: \(.)?([A-Z]+) ", str(error), re.DOTALL)
    return error.status_code or (found[1] if found else "")


def _is_for_now(error: ResponseError) -> bool:
    return _code(error) in _FOR_NOW or str(error).startswith(_FOR_NOW_TOO)


@contextlib.contextmanager
def redis_errors() -> Iterator[None]:
    """Around every call of Redis: turns what it raises into the reason a client may know.

    A script's own error passes through. And a cancellation of the task comes out in every case: the client sends by
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
