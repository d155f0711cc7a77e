"""The upload process: `python -m services.upload`."""

from __future__ import annotations

from services.common import redis_client, server
from services.common.catalog_client import CatalogClient
from services.common.channel import open_channel
from services.common.clock import SystemClock
from services.common.lease import Lease
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.settings import load
from services.upload.open_uploads import LEASE, OpenUploads
from services.upload.servicer import SERVICE, UploadServicer
from services.upload.settings import UploadSettings
from services.upload.sweeper import Sweeper
from services.upload.uploads import Uploads


async def _serve(settings: UploadSettings) -> None:
    clock = SystemClock()
    redis = redis_client.connect(settings)
    async with (
        S3Objects.open(settings) as objects,
        S3Bytes.open(settings) as store,
        open_channel(settings.catalog_target, settings) as channel,
        redis,
    ):
        catalog = CatalogClient(channel)
        register = OpenUploads(redis, clock, settings.upload_lease_seconds)
        uploads = Uploads(
            objects=objects,
            store=store,
            catalog=catalog,
            register=register,
            max_bytes=settings.upload_max_bytes,
            idle_seconds=settings.upload_idle_seconds,
        )
        sweeper = Sweeper(
            objects=objects,
            catalog=catalog,
            register=register,
            lease=Lease(redis, LEASE, 3 * settings.upload_sweep_interval_seconds + 30),
            clock=clock,
            orphan_seconds=settings.upload_orphan_seconds,
        )

        async def ready() -> None:
            await objects.check()
            with redis_client.redis_errors():
                await redis.ping()

        await server.serve(
            "upload",
            settings,
            UploadServicer(uploads, objects).register,
            service_names=[SERVICE],
            ready=ready,
            background=[sweeper.run(settings.upload_sweep_interval_seconds)],
        )
        await uploads.finish_undoing()


def main() -> None:
    """Serve until told to stop."""
    settings = load(UploadSettings)
    server.run("upload", settings, lambda: _serve(settings))


if __name__ == "__main__":
    main()
