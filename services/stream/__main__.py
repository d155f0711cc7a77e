"""The stream process: `python -m services.stream`."""

from __future__ import annotations

from services.common import process, server
from services.common.catalog_client import CatalogClient
from services.common.channel import open_channel
from services.common.clip_joiner import ClipJoiner
from services.common.clock import SystemClock
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.upload_client import UploadClient
from services.stream.playback import Playback
from services.stream.servicer import SERVICE, StreamServicer
from services.stream.settings import StreamSettings
from services.stream.versions import Versions
from services.stream.video_cache import VideoCache


async def _serve(settings: StreamSettings) -> None:
    async with (
        S3Objects.open(settings) as objects,
        S3Bytes.open(settings) as store,
        open_channel(settings.catalog_target, settings) as catalog,
        open_channel(settings.upload_target, settings) as upload,
        open_channel(settings.ffmpeg_target, settings) as ffmpeg,
    ):
        videos = VideoCache(CatalogClient(catalog), settings.stream_access_ttl_seconds)
        joiner = ClipJoiner(objects, ffmpeg, SystemClock())
        versions = Versions(videos, UploadClient(upload), store, joiner)
        playback = Playback(videos, versions, objects, settings.stream_buffer_bytes)
        await server.serve(
            settings,
            StreamServicer(playback).register,
            service_names=[SERVICE.full_name],
            ready={"S3": objects.check},
            grace_seconds=server.SHORT_GRACE_SECONDS,
        )


def main() -> None:
    """Serve until told to stop."""
    process.run("stream", StreamSettings, _serve)


if __name__ == "__main__":
    main()
