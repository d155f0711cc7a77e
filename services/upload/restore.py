"""Restores a journal that Redis has lost, from the catalogue's record and the chunks in S3.

The keys of the chunks carry their offsets, so they chain: the next one begins where the one before ends. Chunks that
are in no chain are orphans of appends that were never acknowledged. Where two chunks have the same offset, the one that
more chunks go on from was committed: none is stored for an offset at which the upload never ended. Where as many go on
from both, as where both are last, the newer is taken: a client that got no answer has sent its chunk again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from reelway.v1 import media_pb2

from services.common import entity_tags, logs
from services.common.containers import SNIFF_BYTES, sniff
from services.common.extents import Extent, read_slices, slices
from services.common.object_keys import journal_prefix
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import ObjectInfo, S3Objects
from services.upload.journal import Journal, JournalState
from services.upload.redis_journal_store import RedisJournalStore

log = logs.get_logger(__name__)

_CHUNK = re.compile("[0-9]{16}-.+", re.DOTALL)
SNIFF_EXTENTS = 64
"""First chunks that are read to tell the container; of still smaller ones it is not told."""


@dataclass(frozen=True)
class _Found:
    extent: Extent
    info: ObjectInfo


def parse_key(key: str, size: int) -> Extent | None:
    """The extent that a key under `journal/` names; None for a foreign key."""
    return Extent.of(key, size) if _CHUNK.fullmatch(key.rpartition("/")[2]) else None


def chain(found: Sequence[ObjectInfo], final_size: int | None) -> list[tuple[Extent, str]]:
    """The committed extents among these objects, in order, each with its object's ETag.

    Args:
        found: everything under the upload's prefix.
        final_size: bytes in all, of a sealed upload; None: as far as it goes.
    """
    at: dict[int, list[_Found]] = defaultdict(list)
    # A chunk that others overtook keeps its tag, and can be committed at the last offset alone that it was copied to.
    latest = {info.key.rpartition("/")[2][17:]: info for info in sorted(found, key=lambda info: info.key)}
    for info in latest.values():
        extent = parse_key(info.key, info.size)
        if extent is not None and info.size > 0:
            at[extent.offset].append(_Found(extent, info))
    # From the end to the beginning: how many chunks go on from each offset, and the first of them.
    ways: dict[int, tuple[int, _Found]] = {}
    for offset in sorted(at, reverse=True):
        steps = [
            (1 + (ways[one.extent.end][0] if one.extent.end in ways else 0), one)
            for one in at[offset]
            if final_size in (None, one.extent.end) or one.extent.end in ways
        ]
        if steps:
            ways[offset] = max(steps, key=lambda step: (step[0], step[1].info.modified))
    chosen: list[tuple[Extent, str]] = []
    offset = 0
    while offset in ways:
        step = ways[offset][1]
        chosen.append((step.extent, step.info.etag))
        offset = step.extent.end
    return chosen


def _tagged(chosen: Sequence[tuple[Extent, str]]) -> list[tuple[Extent, str]]:
    """Each with the entity tag of the upload up to its end, instead of its object's."""
    extents, etag = list[tuple[Extent, str]](), ""
    for extent, stored_etag in chosen:
        etag = entity_tags.of_journal(etag, stored_etag, extent.end)
        extents.append((extent, etag))
    return extents


def _sealed_extents(found: Sequence[ObjectInfo], video: media_pb2.Video) -> list[tuple[Extent, str]]:
    """Those of a sealed upload: of several last chunks the one that makes the entity tag of its record."""

    def is_last(info: ObjectInfo) -> bool:
        extent = parse_key(info.key, info.size)
        return extent is not None and extent.end == video.size_bytes

    for last in filter(is_last, found):
        extents = _tagged(chain([info for info in found if info is last or not is_last(info)], video.size_bytes))
        if extents and extents[-1][1] == video.etag:
            return extents
    # A chunk that was moved inside the store may have another tag there than the one that it was committed with.
    extents = _tagged(chain(found, video.size_bytes))
    return [*extents[:-1], *((extent, video.etag) for extent, _ in extents[-1:])]


async def sniff_extents(data: S3Bytes, extents: Sequence[Extent]) -> media_pb2.Container.ValueType:
    """What an upload is that begins with these extents; errors as read_slices."""
    beginning = slices(extents[:SNIFF_EXTENTS], 0, SNIFF_BYTES)
    return sniff(b"".join([piece async for piece in read_slices(data, beginning)]))


async def restore(
    store: RedisJournalStore, objects: S3Objects, data: S3Bytes, video: media_pb2.Video
) -> Journal | None:
    """The journal of a video whose record says that it grows, or that it is sealed and not one object yet.

    None where the record says neither, or where a sealed one's chunks are not all there.
    """
    sealed = video.state == media_pb2.VIDEO_STATE_READY and not video.object_key
    if video.state != media_pb2.VIDEO_STATE_UPLOADING and not sealed:
        return None
    found = [info async for info in objects.list(journal_prefix(video.video_id))]
    extents = _sealed_extents(found, video) if sealed else _tagged(chain(found, None))
    size, etag = (extents[-1][0].end, extents[-1][1]) if extents else (0, "")
    if sealed and size != video.size_bytes:
        return None
    journal = Journal(
        video_id=video.video_id,
        owner=video.owner,
        state=JournalState.SEALED if sealed else JournalState.OPEN,
        size=size,
        etag=etag,
        chunks=len(extents),
        clips=sum(extent.offset == 0 or extent.begins_clip for extent, _ in extents),
        # The record of an upload that grows does not say it: the first commit noted it in the lost journal alone.
        container=video.container or await sniff_extents(data, [extent for extent, _ in extents]),
        modified=max((info.modified.timestamp() for info in found), default=video.create_time.seconds),
    )
    await store.create(journal, extents)
    log.warning("restored a journal from its chunks", video_id=video.video_id, size=size, chunks=len(extents))
    # Somebody else may have been quicker, and more may have been appended since.
    return await store.get(video.video_id) or journal
