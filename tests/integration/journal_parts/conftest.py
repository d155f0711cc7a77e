"""The journal's parts, wired as the upload process wires them."""

from collections.abc import AsyncIterator
from typing import cast

import pytest

from services.common import redis_client
from services.common.clip_joiner import ClipJoiner
from services.common.lease import Lease
from services.common.settings import RedisSettings
from services.upload.appends import Appends
from services.upload.buffers import Buffers
from services.upload.chunk_writer import ChunkWriter
from services.upload.compaction import Compaction
from services.upload.journal import Limits
from services.upload.journal_sweeper import JournalSweeper
from services.upload.journals import Journals
from services.upload.redis_journal_store import LEASES, RedisJournalStore, lease_name
from services.upload.seal import Sealing
from tests.integration.journal_parts.rig import ORPHAN_SECONDS, Rig
from tests.support.foundation import Foundation, as_user


@pytest.fixture
async def rig(near: Foundation, clean_redis: str) -> AsyncIterator[Rig]:
    objects, data, catalog, clock = near.objects, near.store, near.client, near.clock
    async with redis_client.connect(RedisSettings(redis_url=clean_redis)) as client:
        store = RedisJournalStore(client)
        journals = Journals(
            store=store,
            objects=objects,
            data=data,
            catalog=catalog,
            clock=clock,
            open_per_owner=10,
            open_of_nobody=10,
            idle_seconds=86_400,
        )
        appends = Appends(
            journals=journals,
            store=store,
            objects=objects,
            writer=ChunkWriter(objects, data),
            buffers=Buffers(2**30),
            clock=clock,
            limits=Limits(1000, 2**30, 1000, 2**30),
            most_bytes=2**30,
            idle_seconds=30,
            longest_seconds=60,
            orphan_seconds=ORPHAN_SECONDS,
        )
        sealing = Sealing(journals, store, catalog, clock)
        sweeper = JournalSweeper(
            journals=journals,
            sealing=sealing,
            store=store,
            objects=objects,
            catalog=catalog,
            idle_lease=Lease(client, LEASES + "idle", 60),
            orphan_lease=Lease(client, LEASES + "orphans", 60),
            clock=clock,
            idle_seconds=86_400,
            orphan_seconds=ORPHAN_SECONDS,
        )
        compaction = Compaction(
            joiner=cast(ClipJoiner, None),
            sealing=sealing,
            store=store,
            objects=objects,
            data=data,
            catalog=catalog,
            lease=lambda video_id: Lease(client, lease_name(video_id), 60),
            clock=clock,
        )
        as_user("anna")
        yield Rig(near, client, store, journals, appends, sealing, sweeper, compaction)
