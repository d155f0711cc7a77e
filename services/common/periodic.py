"""Work that is done again and again, by one replica at a time or by each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from prometheus_client import Counter

from services.common import logs
from services.common.errors import ReelwayError
from services.common.lease import Lease, LeaseLost

log = logs.get_logger(__name__)

PUT_OFF = Counter("reelway_put_off_total", "Background work that failed and was left for the next time", ["what"])


async def periodically(
    what: str,
    work: Callable[[], Coroutine[Any, Any, object]],
    lease: Lease | None,
    pause_seconds: float,
    first_seconds: float | None = None,
) -> None:
    """Do `work` for ever, after a pause each time; the first pause may be another.

    With a lease one process at a time does it, and renews the lease until the work ends; None: every process does it.
    A failure is counted, logged, and left for the next time: one bad record must not end what looks after all others.
    """
    pause = pause_seconds if first_seconds is None else first_seconds
    while True:
        await asyncio.sleep(pause)
        pause = pause_seconds
        # Somebody else's lease is no failure.
        with failures_logged(what), contextlib.suppress(LeaseLost):
            await (work() if lease is None else lease.hold(work))


@contextlib.contextmanager
def failures_logged(what: str, **fields: str) -> Iterator[None]:
    """What cannot be done now is counted, and logged with these fields, and left for the next time."""
    try:
        yield
    except ReelwayError as error:
        PUT_OFF.labels(what).inc()
        log.warning("put off", what=what, why=str(error), **fields)
    except Exception:
        PUT_OFF.labels(what).inc()
        log.exception("failed", what=what, **fields)
