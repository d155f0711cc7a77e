"""The journal's own parts inside the test, on real Redis and S3, where one of them fails at the wrong moment."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from reelway.v1 import upload_pb2

from services.common.byte_messages import AppendMessage
from services.common.object_keys import journal_prefix
from services.upload.appends import Appends
from services.upload.compaction import Compaction
from services.upload.journal import Committed
from services.upload.journal_sweeper import JournalSweeper
from services.upload.journals import Journals
from services.upload.redis_journal_store import RedisJournalStore
from services.upload.seal import Sealing
from tests.support.clips import WEBM
from tests.support.foundation import Foundation
from tests.support.journal_client import keys_under

ORPHAN_SECONDS = 3600.0


@dataclass
class Rig:
    """What the upload process makes of an upload that grows."""

    parts: Foundation
    redis: redis.asyncio.Redis
    store: RedisJournalStore
    journals: Journals
    appends: Appends
    sealing: Sealing
    sweeper: JournalSweeper
    compaction: Compaction

    async def create(self) -> str:
        return (await self.journals.create("", "", "a.webm")).video_id

    async def append(self, video_id: str, data: bytes, **header: Any) -> Committed:
        """A chunk in one message."""

        async def messages() -> AsyncIterator[AppendMessage]:
            yield AppendMessage([data], upload_pb2.AppendHeader(video_id=video_id, **header), finish=True)

        return await self.appends.append(messages())

    async def keys(self, video_id: str) -> list[str]:
        """Of all chunks that are there, once nothing is being undone."""
        await self.appends.undoing.wait()
        return await keys_under(self.parts.objects, journal_prefix(video_id))

    async def whole(self, video_id: str) -> bytes:
        """What the journal says that the upload is."""
        located = await self.store.locate(video_id, 0, 2**40, "", 1000)
        assert located is not None
        return b"".join([await self.parts.bytes_of(extent.key) for extent in located.extents])


async def sealed(rig: Rig) -> str:
    video_id = await rig.create()
    await rig.append(video_id, WEBM)
    await rig.append(video_id, b"more")
    await rig.sealing.seal(video_id, ())
    return video_id
