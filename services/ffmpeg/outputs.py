"""A job's output files in the object store: visible once and whole, or not at all.

    ffmpeg-outputs/{job id}/{name}   one output, written as one multipart upload

An attempt notes each multipart upload under its lease before the first part, completes them only while the
lease is held, and commits the job last. The next attempt first aborts what earlier ones noted: from then on the
store itself refuses to complete a stale output.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from urllib.parse import quote

from services.common import tasks
from services.common.errors import ReelwayError
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.task_failure import TaskFailure
from services.ffmpeg.job import JobFault
from services.ffmpeg.work_folder import CollectedOutput

PREFIX = "ffmpeg-outputs/"
# S3 takes 10 000 parts of at least 5 MiB; 16 MiB keeps 160 GB within them.
_PART_BYTES = 16 * 2**20
_PARTS_IN_FLIGHT = 3
_READ_BYTES = 2**19
# Less than a worker that drains has left when it stops its jobs.
_ABORT_SECONDS = 5.0

# Types that a browser runs as a page (svg, html) are never served; everything else is a download.
_TYPES = {
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "avi": "video/x-msvideo",
    "ogv": "video/ogg",
    "ts": "video/mp2t",
    "mpg": "video/mpeg",
    "mpeg": "video/mpeg",
    "flv": "video/x-flv",
    "gif": "image/gif",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "srt": "text/plain; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}


def key_of(job_id: str, name: str) -> str:
    """The object key of a job's output."""
    return f"{PREFIX}{job_id}/{name}"


def type_of(name: str) -> str:
    """The Content-Type that an output of this name is served with."""
    return _TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


class UploadNotes(Protocol):
    """What outputs need of a running attempt; JobContext is one."""

    async def begin_upload(self, upload_id: str, key: str) -> None:
        """Note an upload; raises when the attempt may write nothing."""
        ...

    async def earlier_uploads(self) -> Mapping[str, str]:
        """Upload id -> key of earlier attempts."""
        ...

    async def still_held(self) -> None:
        """Raises when the attempt may write nothing."""
        ...


class Outputs:
    """Writes, signs and removes outputs. Raises ReelwayError STORE_UNAVAILABLE when the store fails."""

    def __init__(self, objects: S3Objects, data: S3Bytes) -> None:
        self.objects, self.data = objects, data

    async def abort_earlier(self, notes: UploadNotes) -> None:
        """Fence earlier attempts of the job out of the store; called before the handler of every later attempt runs."""
        for upload_id, key in (await notes.earlier_uploads()).items():
            await self.objects.abort_multipart(key, upload_id)

    async def publish(self, job_id: str, files: Sequence[CollectedOutput], notes: UploadNotes) -> dict[str, int]:
        """Store all files, whole -> placeholder: size in bytes. They are visible when this returns.

        Closes the files' descriptors. Raises what `notes` raises.
        """
        begun: list[tuple[str, asyncio.Task[str]]] = []
        finished: list[list[str]] = []
        try:
            for file in files:
                key = key_of(job_id, file.name)
                beginning = asyncio.create_task(self.objects.create_multipart(key, type_of(file.name)))
                begun.append((key, beginning))
                upload_id = await asyncio.shield(beginning)
                await notes.begin_upload(upload_id, key)
                finished.append(await self._put(key, upload_id, file.descriptor, file.size))
            await notes.still_held()
            for (key, beginning), etags in zip(begun, finished, strict=True):
                await self.objects.complete_multipart(key, beginning.result(), etags)
        except BaseException:
            await tasks.to_the_end(self._abort(begun))
            raise
        finally:
            for file in files:
                os.close(file.descriptor)
        return {file.placeholder: file.size for file in files}

    async def _abort(self, begun: Sequence[tuple[str, asyncio.Task[str]]]) -> None:
        """Best effort, so that nothing waits for the sweeper; aborting a completed upload does nothing."""
        with contextlib.suppress(ReelwayError, TimeoutError):
            async with asyncio.timeout(_ABORT_SECONDS):
                for key, beginning in begun:
                    # The request may still be on its way: only its answer tells what is to be aborted.
                    await self.objects.abort_multipart(key, await beginning)

    async def _put(self, key: str, upload_id: str, descriptor: int, size: int) -> list[str]:
        async def part(index: int) -> str:
            start = index * _PART_BYTES
            length = min(_PART_BYTES, size - start)
            return await self.data.put_part(
                quote(key), upload_id, index + 1, length, lambda: _read(descriptor, start, length)
            )

        # No part reads on when this returns: the caller closes the descriptor.
        return await tasks.all_of(map(tasks.at_most(_PARTS_IN_FLIGHT, part), range(math.ceil(size / _PART_BYTES))))

    async def sign(self, job_id: str, name: str, seconds: int) -> str:
        """A URL on the public endpoint by which a client downloads the output, for so many seconds."""
        disposition = f"attachment; filename*=UTF-8''{quote(name)}"
        return await self.objects.presign_get(key_of(job_id, name), seconds, type_of(name), disposition)

    async def remove(self, job_id: str, uploads: Mapping[str, str]) -> None:
        """Abort these uploads, then delete all that the job left."""
        for upload_id, key in uploads.items():
            await self.objects.abort_multipart(key, upload_id)
        await self.objects.delete_all(key_of(job_id, ""))

    async def ensure_expiry(self, days: int) -> None:
        """Have the store itself remove outputs so old, where it can: a safety net for the sweeper."""
        await self.objects.ensure_expiry("reelway-ffmpeg-outputs", PREFIX, days)

    async def remove_older(self, than: datetime) -> int:
        """Delete every output last written before; returns how many."""
        removed = 0
        async for found in self.objects.list(PREFIX):
            if found.modified < than:
                await self.objects.delete(found.key)
                removed += 1
        return removed

    async def abort_older(self, than: datetime) -> int:
        """Abort every unfinished upload begun before; returns how many."""
        return await self.objects.abort_multiparts(PREFIX, than)


async def _read(descriptor: int, start: int, length: int) -> AsyncIterator[bytes]:
    end = start + length
    while start < end:
        chunk = await tasks.in_thread(os.pread, descriptor, min(_READ_BYTES, end - start), start)
        if not chunk:
            raise JobFault(TaskFailure.OUTPUT_MISSING, "an output changed while it was stored")
        start += len(chunk)
        yield chunk
