"""Looks at a new video: is it one, how long and large is it, what does it look like.

Handler of JobKind.PROBE. Parameters of its VideoWork, one of:

    source   key of a signed upload under `incoming/`: checked, moved to `videos/`, and made a draft
    video    key of a finished video's object: only described; of a very large one parts are read (excerpt.py)

Each step can be killed and repeated: objects are written before the record that names them, the upload goes last, and
the catalog takes the first outcome and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import grpc
from reelway.v1 import library_pb2, library_pb2_grpc, media_pb2

from services.common import fault_points, logs
from services.common.call import call
from services.common.caller import set_caller, system_caller
from services.common.catalog_client import CatalogClient, if_found
from services.common.containers import KINDS, SNIFF_BYTES
from services.common.errors import ReelwayError
from services.common.object_keys import object_key, object_keys, thumbnail_key
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import ObjectInfo, S3Objects
from services.common.task_failure import TaskFailure
from services.common.video_state import GONE
from services.ffmpeg.job import JobFault
from services.ffmpeg.probe import ProbeFailed, probe
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.thumbnail import measured_seconds, thumbnail
from services.ffmpeg.worker.excerpt import fetch_excerpt
from services.ffmpeg.worker.handler import JobContext, may_go_away
from services.ffmpeg.worker.new_file import new_file
from services.ffmpeg.worker.video_check import Unusable, container_of

log = logs.get_logger(__name__)

_EXCERPT = 24
"""Of a video that is too large to be fetched, this fraction of what may be is."""
_CORRUPTED = media_pb2.PROCESSING_FAILURE_CORRUPTED


class ProbeHandler:
    """See the module. Result: `outcome`, a word."""

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        objects: S3Objects,
        data: S3Bytes,
        catalog: grpc.aio.Channel,
        upload_bytes: int,
        upload_types: Collection[str],
        whole_bytes: int,
    ) -> None:
        self._sandbox, self._objects, self._data = sandbox, objects, data
        self._upload_bytes, self._upload_types, self._whole_bytes = upload_bytes, upload_types, whole_bytes
        self._catalog = CatalogClient(catalog)
        self._library: library_pb2_grpc.LibraryServiceAsyncStub = library_pb2_grpc.LibraryServiceStub(catalog)

    async def __call__(self, context: JobContext) -> Mapping[str, Any]:
        """Raises JobFault, NoLongerHeld, ReelwayError."""
        set_caller(system_caller())
        video_id: str = context.job.spec["video_id"]
        parameters: Mapping[str, str] = context.job.spec["parameters"]
        upload = "source" in parameters
        key = parameters["source"] if upload else parameters["video"]
        info = await self._objects.head(key)
        if info is None:
            # An earlier attempt had it done; or the video was deleted meanwhile, perhaps before all of it was stored.
            if (await self._catalog.look_up(video_id)).state in GONE:
                await self._remove(video_id)
            return {"outcome": "gone"}
        try:
            with may_go_away("the file"):
                found = await (
                    self._take_in(context, video_id, info)
                    if upload
                    else self._describe(context, info, whole=info.size <= self._whole_bytes)
                )
        except Unusable as error:
            log.info("not a usable video", video_id=video_id, why=str(error))
            outcome = library_pb2.FinishProcessingRequest(video_id=video_id, failure=error.failure)
        else:
            outcome = library_pb2.FinishProcessingRequest(video_id=video_id, processed=found)
        await context.still_held()
        kept = await self._finish(outcome)
        fault_points.reach("look.told")
        if upload:
            # What stays there goes with the next look for arrivals, for no video is made of it any more.
            with contextlib.suppress(ReelwayError):
                await self._objects.delete(key)
        if kept is None:
            await self._remove(video_id)
            return {"outcome": "deleted"}
        return {"outcome": outcome.WhichOneof("outcome")}

    async def _finish(self, outcome: library_pb2.FinishProcessingRequest) -> media_pb2.Video | None:
        """The record with the outcome; None where the video was deleted."""
        answer = await if_found(call(self._library.FinishProcessing, outcome))
        return None if answer is None else answer.video

    async def _remove(self, video_id: str) -> None:
        """All that attempts may have stored."""
        for key in (thumbnail_key(video_id), *object_keys(video_id)):
            await self._objects.delete(key)

    async def _take_in(self, context: JobContext, video_id: str, info: ObjectInfo) -> library_pb2.Processed:
        """Check an upload and move it to its place."""
        if info.size > self._upload_bytes:
            raise Unusable(media_pb2.PROCESSING_FAILURE_TOO_LARGE)
        head = b"".join([chunk async for chunk in self._data.read(info.key, 0, min(SNIFF_BYTES, info.size))])
        container = container_of(head, self._upload_types)
        found = await self._describe(context, info, whole=True)
        found.container, found.object_key = container, object_key(video_id, container)
        await context.still_held()
        if not await self._objects.copy_if(info.key, found.object_key, KINDS[container].content_type, info.etag):
            # The form was used again while we were reading.
            raise JobFault(TaskFailure.INPUT_UNAVAILABLE, "the upload changed while it was looked at", may_pass=True)
        fault_points.reach("look.moved")
        return found

    async def _describe(self, context: JobContext, info: ObjectInfo, *, whole: bool) -> library_pb2.Processed:
        """What the file is, read as a whole or in parts; its thumbnail is in the store then.

        Unusable where no frame of it can be shown.
        """
        folder = context.folder
        path = folder.path / "in" / "video"
        sha256 = await self._fetch(info, path, whole=whole)
        fault_points.reach("look.fetched")
        try:
            media = await probe(self._sandbox, folder, path)
        except ProbeFailed as error:
            log.info("cannot be probed", key=info.key, why=str(error))
            raise Unusable(_CORRUPTED) from None
        if media.video is None:
            # Sound, a picture or subtitles are another type of file; none of them is a damaged one.
            other = any(stream.kind in ("audio", "video", "subtitle") for stream in media.streams)
            raise Unusable(media_pb2.PROCESSING_FAILURE_UNSUPPORTED if other else _CORRUPTED)
        seconds = media.duration_seconds
        if seconds is None and whole:
            seconds = await measured_seconds(self._sandbox, folder, path)
        picture = await thumbnail(self._sandbox, folder, path, (seconds or 0.0) / 3, whole=whole)
        if picture is None:
            raise Unusable(_CORRUPTED)
        await context.still_held()
        picture_key = thumbnail_key(context.job.spec["video_id"])
        await self._objects.put(picture_key, picture, "image/jpeg")
        fault_points.reach("look.pictured")
        return library_pb2.Processed(
            size_bytes=info.size,
            sha256=sha256,
            duration_seconds=seconds,
            width=media.video.width,
            height=media.video.height,
            video_codec=media.video.codec,
            audio_codec=media.audio.codec if media.audio else "",
            thumbnail_key=picture_key,
        )

    async def _fetch(self, info: ObjectInfo, path: Path, *, whole: bool) -> str:
        """Write the object, or the parts of it that tell most, into a new file; the SHA-256 of a whole one in hex."""
        if not whole:
            await fetch_excerpt(self._data, info.key, info.size, path, self._whole_bytes // _EXCERPT)
            return ""
        sha256 = hashlib.sha256()
        async with new_file(path) as file:
            async for chunk in self._data.read(info.key, 0, info.size):
                sha256.update(chunk)
                await asyncio.to_thread(file.write, chunk)
        return sha256.hexdigest()
