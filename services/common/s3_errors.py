"""What the store's failures mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from services.common import logs
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

log = logs.get_logger(__name__)


def error_code(error: ClientError) -> str:
    """S3's own code, `NoSuchKey` and the like; the HTTP status where the answer had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def s3_errors(operation: str) -> Iterator[None]:
    """Any failure of the store becomes STORE_UNAVAILABLE; what it was stands in the log alone."""
    try:
        yield
    except (ClientError, BotoCoreError, aiohttp.ClientError, TimeoutError, OSError) as error:
        log.warning("store failed", operation=operation, error=f"{type(error).__name__}: {error}"[:500])
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE) from error
