"""Presigned URLs of thumbnails."""

from __future__ import annotations

import asyncio

from services.common.bounded_cache import BoundedCache
from services.common.clock import Clock
from services.common.s3_objects import S3Objects
from services.common.settings import LONGEST_SIGNED_SECONDS

_URL_REUSED_SECONDS = 86_400
_SESSION_URL_REUSED_SECONDS = 300
"""botocore renews such keys ten minutes before they end, or earlier."""
_MOST_URLS = 50_000


class Thumbnails:
    """Presigned URLs of pictures, each made once a day: so a browser finds it in its cache, and a page is quick."""

    def __init__(self, objects: S3Objects, clock: Clock) -> None:
        self._objects, self._clock = objects, clock
        self._signed = BoundedCache[str, tuple[float, float, str]](_MOST_URLS)

    async def url(self, key: str) -> str:
        """Of the picture with this key; empty for none."""
        if not key:
            return ""
        now = self._clock.seconds()
        known = self._signed.get(key)
        # A clock that was ahead may have been set right since: the store refuses a signature from the future.
        if known is None or not known[0] <= now < known[1]:
            url = await self._objects.presign_get(key, LONGEST_SIGNED_SECONDS, "", "")
            # Temporary keys of the platform end with their session, and their signatures with them.
            reused = _URL_REUSED_SECONDS if "X-Amz-Security-Token=" not in url else _SESSION_URL_REUSED_SECONDS
            self._signed[key] = known = (now, now + reused, url)
            # Signing awaits nothing: hundreds in a row would hold up all other calls.
            await asyncio.sleep(0)
        return known[2]
