"""The journal as a client of the services sees it, over gRPC; and what it leaves in S3 and Redis."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import redis.asyncio
from reelway.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    media_pb2,
    stream_pb2,
    stream_pb2_grpc,
    upload_pb2,
    upload_pb2_grpc,
)

from services.common.caller import Caller
from services.common.channel import open_channel
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError
from services.common.s3_objects import S3Objects
from tests.support.fleet import Fleet
from tests.support.waiting import until

_MESSAGE = 512 * 2**10
# A call that is not answered for so long is a fault of the test.
_SECONDS = 30.0


class JournalClient:
    """Calls as one user; errors are ReelwayError."""

    def __init__(
        self, upload: grpc.aio.Channel, stream: grpc.aio.Channel, catalog: grpc.aio.Channel, user: str
    ) -> None:
        self._channels = (upload, stream, catalog)
        self._upload: Any = upload_pb2_grpc.UploadServiceStub(upload)
        self._stream: Any = stream_pb2_grpc.StreamServiceStub(stream)
        self._catalog: Any = catalog_pb2_grpc.CatalogServiceStub(catalog)
        self._metadata = Caller(user, "test").metadata()

    def as_user(self, user: str) -> "JournalClient":
        """The same for another user."""
        return JournalClient(*self._channels, user)

    async def _call(self, method: Any, request: Any) -> Any:
        try:
            return await method(request, timeout=_SECONDS, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def create(self, **fields: str) -> media_pb2.Video:
        response: upload_pb2.CreateUploadResponse = await self._call(
            self._upload.CreateUpload, upload_pb2.CreateUploadRequest(**fields)
        )
        return response.video

    async def append(self, video_id: str, data: bytes, *, message: int = _MESSAGE, **header: Any) -> Any:
        """Append one chunk; `header` has more fields of AppendHeader."""
        pieces = [data[start : start + message] for start in range(0, len(data), message)] or [b""]
        return await self.append_messages(
            [
                upload_pb2.AppendRequest(
                    header=upload_pb2.AppendHeader(video_id=video_id, **header) if index == 0 else None,
                    data=piece,
                    finish=index == len(pieces) - 1,
                )
                for index, piece in enumerate(pieces)
            ]
        )

    async def append_messages(self, messages: Iterable[upload_pb2.AppendRequest]) -> Any:
        """Append with exactly these messages."""
        try:
            return await self._upload.Append(iter(messages), timeout=_SECONDS, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    def open_append(self, timeout: float = _SECONDS) -> Any:
        """An Append whose messages are written one by one."""
        return self._upload.Append(timeout=timeout, metadata=self._metadata)

    async def upload(self, video_id: str) -> upload_pb2.Upload:
        response: upload_pb2.GetUploadResponse = await self._call(
            self._upload.GetUpload, upload_pb2.GetUploadRequest(video_id=video_id)
        )
        return response.upload

    async def seal(self, video_id: str, containers: Iterable[Any] = ()) -> media_pb2.Video:
        response: upload_pb2.SealResponse = await self._call(
            self._upload.Seal, upload_pb2.SealRequest(video_id=video_id, containers=containers)
        )
        return response.video

    async def abort(self, video_id: str) -> None:
        await self._call(self._upload.Abort, upload_pb2.AbortRequest(video_id=video_id))

    async def video(self, video_id: str) -> media_pb2.Video:
        response: catalog_pb2.GetVideoResponse = await self._call(
            self._catalog.GetVideo, catalog_pb2.GetVideoRequest(video_id=video_id)
        )
        return response.video

    async def videos(self) -> list[media_pb2.Video]:
        """All that the user may see without knowing their ids."""
        found, token = list[media_pb2.Video](), ""
        while True:
            request = catalog_pb2.ListVideosRequest(page_size=1000, page_token=token)
            page = await self._call(self._catalog.ListVideos, request)
            found += page.videos
            if not (token := page.next_page_token):
                return found

    async def change(self, video_id: str, **fields: Any) -> None:
        await self._call(self._catalog.UpdateVideo, catalog_pb2.UpdateVideoRequest(video_id=video_id, **fields))

    async def delete(self, video_id: str) -> None:
        await self._call(self._catalog.DeleteVideo, catalog_pb2.DeleteVideoRequest(video_id=video_id))

    async def stat(self, video_id: str) -> stream_pb2.StatResponse:
        response: stream_pb2.StatResponse = await self._call(
            self._stream.Stat, stream_pb2.StatRequest(video_id=video_id)
        )
        return response

    async def read(self, video_id: str, offset: int, length: int, etag: str = "") -> bytes:
        """One window, of at most 64 MiB."""
        request = stream_pb2.ReadRequest(video_id=video_id, offset_bytes=offset, length_bytes=length, etag=etag)
        try:
            call = self._stream.Read(request, timeout=_SECONDS, metadata=self._metadata)
            return b"".join([response.data async for response in call])
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def read_range(self, video_id: str, offset: int, length: int, etag: str = "") -> bytes:
        request = stream_pb2.ReadRangeRequest(video_id=video_id, offset_bytes=offset, length_bytes=length, etag=etag)
        response: stream_pb2.ReadRangeResponse = await self._call(self._stream.ReadRange, request)
        return response.data

    async def whole(self, video_id: str, window: int = 4 * 2**20) -> bytes:
        """Every byte of one version, in windows, as the gateway reads."""
        stat = await self.stat(video_id)
        return b"".join(
            [
                await self.read(video_id, offset, min(window, stat.size_bytes - offset), stat.etag)
                for offset in range(0, stat.size_bytes, window)
            ]
        )

    async def is_compacted(self, video_id: str) -> bool:
        return bool((await self.video(video_id)).object_key)


@asynccontextmanager
async def connect(fleet: Fleet, user: str = "") -> AsyncIterator[JournalClient]:
    """A client of all processes of the fleet."""
    async with (
        open_channel(fleet.target("upload")) as upload,
        open_channel(fleet.target("stream")) as stream,
        open_channel(fleet.target("catalog")) as catalog,
    ):
        yield JournalClient(upload, stream, catalog, user)


@asynccontextmanager
async def open_objects(fleet: Fleet) -> AsyncIterator[S3Objects]:
    """The bucket, from outside."""
    async with S3Objects.open(fleet.s3.settings) as objects:
        yield objects


async def keys_under(objects: S3Objects, prefix: str) -> list[str]:
    """Every key that begins so, unfinished multipart uploads too."""
    return [
        *[info.key async for info in objects.list(prefix)],
        *[info.key async for info in objects.list_multiparts(prefix)],
    ]


async def empty_redis(fleet: Fleet) -> None:
    """What happens when Redis loses its disk."""
    async with redis.asyncio.Redis.from_url(fleet.redis_url) as client:
        await client.flushall()


async def lose_redis(client: JournalClient, fleet: Fleet, video_id: str) -> None:
    """Empty it, and wait until the catalogue knows the video again."""
    await empty_redis(fleet)

    async def index_is_back() -> bool:
        try:
            return bool(await client.video(video_id))
        except ReelwayError as error:
            assert error.reason in {ErrorReason.INDEX_MISSING, ErrorReason.SERVICE_UNAVAILABLE}
            return False

    await until(index_is_back, 30)


async def refusal(call: Any) -> ErrorReason:
    """Why a call is refused; AssertionError where it is not."""
    try:
        answer = await call
    except ReelwayError as error:
        return error.reason
    raise AssertionError(f"not refused: {answer!r}")
