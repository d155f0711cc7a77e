"""Videos that grow by appends, whatever dialect asks: create, append, finish, find by number."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass

import grpc
from reelway.v1 import catalog_pb2, catalog_pb2_grpc, media_pb2, upload_pb2

from gateway.upload_backend import UploadBackend
from services.common.bounded_cache import BoundedCache
from services.common.byte_messages import Buffer
from services.common.call import call
from services.common.caller import current_caller
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.request_limits import IDEMPOTENCY_KEY_LENGTH

_PAGE = 1000
_KNOWN = 100_000
_LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True)
class ChunkClaims:
    """What a client says of its chunk."""

    size: int = 0
    """Bytes, exactly; 0: unknown."""
    max_size: int = 0
    """Bytes, at most; 0: unknown."""
    idempotency_key: str = ""
    offset: int | None = None
    """Where it must begin; None: behind whatever is there."""
    sha256: bytes = b""
    """Of its bytes; empty: not told."""
    expects: bool = False
    """The client sends nothing before it is told to."""


class Appends:
    """For the calling user; every method raises ReelwayError as the services' protos say."""

    def __init__(self, backend: UploadBackend, catalog: grpc.aio.Channel, max_bytes: int) -> None:
        self._backend, self._max_bytes = backend, max_bytes
        self._catalog: catalog_pb2_grpc.CatalogServiceAsyncStub = catalog_pb2_grpc.CatalogServiceStub(catalog)
        # A number is one video's for good, so this cannot be wrong; the services judge each time who may do what.
        self._ids = BoundedCache[tuple[int, str], str](_KNOWN)

    async def create(self, title: str = "", description: str = "") -> media_pb2.Video:
        """A new, empty video."""
        video = await self._backend.create(title, description)
        self._remember(video)
        return video

    async def find(self, number: int) -> media_pb2.Video:
        """The video with this number; VIDEO_NOT_FOUND."""
        if not 0 < number <= _LARGEST_NUMBER:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        video = (await call(self._catalog.GetVideo, catalog_pb2.GetVideoRequest(number=number))).video
        self._remember(video)
        return video

    async def append(self, number: int, claims: ChunkClaims, data: AsyncIterator[Buffer]) -> upload_pb2.AppendResponse:
        """Append one chunk; what `data` raises appends nothing, and comes out."""
        if claims.size > self._max_bytes:
            raise ReelwayError(ErrorReason.CHUNK_TOO_LARGE, metadata={"max_bytes": str(self._max_bytes)})
        video_id = await self.video_id(number, check=claims.expects)
        header = upload_pb2.AppendHeader(
            video_id=video_id,
            declared_size_bytes=claims.size,
            # A length beyond any integer is beyond any limit.
            max_size_bytes=min(claims.max_size, _LARGEST_NUMBER),
            idempotency_key=_within_limit(claims.idempotency_key),
            expected_offset_bytes=claims.offset,
            sha256=claims.sha256,
        )
        return await self._backend.append(header, data)

    async def finish(self, number: int, containers: Iterable[media_pb2.Container.ValueType]) -> media_pb2.Video:
        """No more chunks: the video is final."""
        return await self._backend.seal(await self.video_id(number), containers)

    async def list(self, offset: int, limit: int | None) -> AsyncGenerator[list[media_pb2.Video], None]:
        """What the caller may see in a list, oldest first, from the `offset`-th on, in pages; no limit: all."""
        if limit == 0:
            yield []
            return
        request = catalog_pb2.ListVideosRequest(skip=min(offset, _LARGEST_NUMBER))
        while True:
            # The catalogue reads and sends whole records, whatever is made of them here.
            request.page_size = _PAGE if limit is None else min(_PAGE, limit)
            page = await call(self._catalog.ListVideos, request)
            yield list(page.videos)
            limit = None if limit is None else limit - len(page.videos)
            request = catalog_pb2.ListVideosRequest(page_token=page.next_page_token)
            if not request.page_token or limit == 0:
                return

    async def video_id(self, number: int, *, check: bool = False) -> str:
        """Of the video with this number; VIDEO_NOT_FOUND, with `check` UPLOAD_SEALED for one that grows no more."""
        known = self._ids.get((number, current_caller().user))
        if known is not None and not check:
            return known
        video = await self.find(number)
        if check and video.state != media_pb2.VIDEO_STATE_UPLOADING:
            raise ReelwayError(ErrorReason.UPLOAD_SEALED)
        return video.video_id

    def _remember(self, video: media_pb2.Video) -> None:
        self._ids[video.number, current_caller().user] = video.video_id


def _within_limit(key: str) -> str:
    """A client's key of any length, as one that the service takes."""
    return key if len(key) <= IDEMPOTENCY_KEY_LENGTH else hashlib.sha256(key.encode()).hexdigest()
