"""The services' own parts on real servers, inside the test: no processes, the same S3 and Redis."""

import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import cast
from unittest.mock import AsyncMock, patch

import pytest
import redis.asyncio as redis
from reelway.v1 import catalog_pb2, media_pb2, upload_pb2

from services.catalog.catalog import Catalog
from services.catalog.journal_changes import JournalChanges
from services.catalog.record_store import RecordStore
from services.catalog.redis_video_store import LEASES, RedisVideoStore
from services.common import redis_client, s3_bytes
from services.common.byte_messages import UploadMessage
from services.common.caller import SYSTEM_USER, Caller, current_caller, set_caller
from services.common.catalog_client import CatalogClient
from services.common.clock import Clock, SystemClock
from services.common.lease import Lease
from services.common.object_keys import object_key
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.settings import RedisSettings
from services.upload.buffers import Buffers
from services.upload.open_uploads import LEASE, OpenUploads
from services.upload.sweeper import Sweeper
from services.upload.uploads import Uploads
from tests.support.servers import S3Server

Messages = AsyncIterator[UploadMessage]
"""What a client sends of one upload."""


def finished_video(container: media_pb2.Container.ValueType = media_pb2.CONTAINER_MP4) -> media_pb2.Video:
    """A record as the catalogue is told it of a whole file, whose five bytes are in the store or not."""
    video_id = str(uuid.uuid4())
    return media_pb2.Video(
        video_id=video_id,
        state=media_pb2.VIDEO_STATE_READY,
        container=container,
        size_bytes=5,
        etag='"e"',
        object_key=object_key(video_id, container),
    )


@pytest.fixture
def hasty_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many tries to write to the store as ever; only the seconds between them, some five in all, tell nothing."""
    monkeypatch.setattr(s3_bytes, "_WRITES", replace(s3_bytes._WRITES, longest_seconds=0.01))


class TurnedClock(SystemClock):
    """The machine's clock, put forward as a test likes."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds(), UTC)

    def seconds(self) -> float:
        return super().seconds() + self.ahead


class NearCatalog:
    """CatalogClient's calls without a wire between: the catalogue judges for the same caller.

    Attributes:
        failure: raised instead of an answer while it is set; `after` says whether the work was done first.
    """

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self.catalog, self._changes = catalog, JournalChanges(catalog, clock)
        self.failure: Exception | None = None
        self.after = False

    async def create(self, video: media_pb2.Video) -> media_pb2.Video:
        if self.failure is not None and not self.after:
            raise self.failure
        created = await self.catalog.create(video, current_caller().user)
        if self.failure is not None:
            raise self.failure
        return created

    async def get(self, *, video_id: str = "", number: int = 0) -> media_pb2.Video:
        return await self.catalog.get(current_caller().user, video_id=video_id, number=number)

    async def delete(self, video_id: str, caller: Caller | None = None) -> None:
        await self.catalog.delete((caller or current_caller()).user, video_id)

    async def look_up(self, video_id: str) -> media_pb2.Video:
        return await self.catalog.look_up(video_id)

    async def growing(self) -> AsyncIterator[str]:
        for video in (await self.catalog.page(SYSTEM_USER, 1000, ""))[0]:
            yield video.video_id

    async def seal(self, request: catalog_pb2.SealVideoRequest) -> media_pb2.Video:
        return await self._changes.seal(request)

    async def attach_object(self, request: catalog_pb2.AttachObjectRequest) -> media_pb2.Video:
        return await self._changes.attach_object(request)


@dataclass
class Foundation:
    """Everything that the upload and catalog processes wire together."""

    objects: S3Objects
    store: S3Bytes
    redis: redis.Redis
    videos: RedisVideoStore
    records: RecordStore
    catalog: Catalog
    near: NearCatalog
    register: OpenUploads
    uploads: Uploads
    clock: TurnedClock

    @property
    def client(self) -> CatalogClient:
        """The catalogue, for those who want the client's type."""
        return cast(CatalogClient, self.near)

    def sweeper(self, orphan_seconds: float = 86_400) -> Sweeper:
        """The upload service's."""
        return Sweeper(
            objects=self.objects,
            catalog=self.client,
            open_uploads=self.register,
            lease=Lease(self.redis, LEASE, 60),
            clock=self.clock,
            orphan_seconds=orphan_seconds,
        )

    def rebuild_lease(self, seconds: float = 60) -> Lease:
        """Of a rebuild."""
        return Lease(self.redis, LEASES + "rebuild", seconds)

    async def bytes_of(self, key: str) -> bytes:
        """A whole object."""
        body = await self.objects.get(key)
        assert body is not None
        return body

    async def is_whole(self, video: media_pb2.Video, data: bytes) -> bool:
        """Whether the video's object has these bytes; a difference of megabytes is nothing to print."""
        return await self.bytes_of(video.object_key) == data

    async def leftovers(self) -> dict[str, list[str]]:
        """All that an upload may leave: nothing in any of the lists where it left nothing."""
        return {
            "objects": [info.key async for info in self.objects.list("videos/")],
            "multiparts": [info.key async for info in self.objects.list_multiparts("videos/")],
            "records": [info.key async for info in self.objects.list("catalog/")],
            "entries": sorted(await self.register.keys()),
        }


NOTHING: dict[str, list[str]] = {"objects": [], "multiparts": [], "records": [], "entries": []}


@dataclass
class Store:
    """Clients of one bucket. They are slow to make, so tests share them and clean up between."""

    server: S3Server
    objects: S3Objects
    store: S3Bytes

    async def empty(self) -> None:
        """Removes everything that is in the bucket."""
        async for multipart in self.objects.list_multiparts("videos/"):
            await self.objects.abort_multipart(multipart.key, multipart.upload_id)
        async for info in self.objects.list(""):
            await self.objects.delete(info.key)


@asynccontextmanager
async def open_store(s3: S3Server, endpoint_url: str = "") -> AsyncIterator[Store]:
    """Clients of a bucket, through something in front of its server where a URL is given."""
    settings = replace(s3, endpoint_url=endpoint_url or s3.endpoint_url).settings
    async with S3Objects.open(settings) as objects, S3Bytes.open(settings) as store:
        yield Store(s3, objects, store)


@asynccontextmanager
async def foundation(
    store: Store,
    redis_url: str,
    *,
    buffer_bytes: int = 2**30,
    max_bytes: int = 2**30,
    idle_seconds: float = 30,
    lease_seconds: float = 60,
) -> AsyncIterator[Foundation]:
    """On the emptied bucket and the given Redis, whose index is there and empty."""
    await store.empty()
    objects, clock = store.objects, TurnedClock()
    async with AsyncExitStack() as stack:
        raw = redis_client.connect(RedisSettings(redis_url=redis_url), text=False)
        text = redis_client.connect(RedisSettings(redis_url=redis_url))
        await stack.enter_async_context(raw)
        await stack.enter_async_context(text)
        videos, records = RedisVideoStore(raw, clock), RecordStore(objects, store.store)
        making = await taken_lease(raw)
        await videos.finish_load(0, 0, making)
        await making.release()
        catalog = Catalog(videos, records, objects, clock)
        near = NearCatalog(catalog, clock)
        # The register goes by Redis' clock.
        stack.enter_context(patch.object(text, "time", AsyncMock(side_effect=lambda: (clock.seconds(), 0))))
        register = OpenUploads(text, lease_seconds)
        uploads = Uploads(
            objects=objects,
            data=store.store,
            catalog=cast(CatalogClient, near),
            open_uploads=register,
            buffers=Buffers(buffer_bytes),
            max_bytes=max_bytes,
            idle_seconds=idle_seconds,
        )
        yield Foundation(objects, store.store, raw, videos, records, catalog, near, register, uploads, clock)


async def taken_lease(client: redis.Redis) -> Lease:
    """The lease of a rebuild: whoever fills an index holds it."""
    lease = Lease(client, LEASES + "rebuild", 60)
    assert await lease.take()
    return lease


@pytest.fixture(scope="module")
async def each_store(s3_server: S3Server) -> AsyncIterator[Store]:
    """Clients of both servers, one after the other."""
    async with open_store(s3_server) as store:
        yield store


@pytest.fixture(scope="module")
async def juicefs_store(juicefs_s3: S3Server) -> AsyncIterator[Store]:
    """Clients of JuiceFS's gateway."""
    async with open_store(juicefs_s3) as store:
        yield store


@pytest.fixture
async def parts(each_store: Store, clean_redis: str) -> AsyncIterator[Foundation]:
    """The services' parts, on both servers."""
    async with foundation(each_store, clean_redis) as wired:
        yield wired


@pytest.fixture
async def near(juicefs_store: Store, clean_redis: str) -> AsyncIterator[Foundation]:
    """The same on one of them, for what does not depend on it."""
    async with foundation(juicefs_store, clean_redis) as wired:
        yield wired


def as_user(user: str) -> None:
    """What follows in this task is done for `user`."""
    set_caller(Caller(user, "test-request"))


async def messages(
    data: bytes, sizes: Iterable[int] = (), *, name: str = "clip.mp4", declared: int = 0, most: int = 0
) -> Messages:
    """An upload's messages: pieces of these sizes, then of 512 KiB."""
    header = upload_pb2.UploadHeader(file_name=name, declared_size_bytes=declared, max_size_bytes=most)
    yield UploadMessage(header=header)
    view = memoryview(data)
    for size in sizes:
        yield UploadMessage([view[:size]])
        view = view[size:]
    while view:
        yield UploadMessage([view[: 2**19]])
        view = view[2**19 :]
