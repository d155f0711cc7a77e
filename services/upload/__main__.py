"""The upload process: `python -m services.upload`."""

from __future__ import annotations

import grpc
from reelway.v1 import signing_pb2_grpc

from services.common import process, redis_client, server
from services.common.catalog_client import CatalogClient
from services.common.channel import open_channel
from services.common.clip_joiner import ClipJoiner
from services.common.clock import SystemClock
from services.common.lease import Lease
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.upload import ingest
from services.upload.appends import Appends
from services.upload.buffers import Buffers
from services.upload.chunk_writer import ChunkWriter
from services.upload.compaction import Compaction
from services.upload.event_hook import event_hook
from services.upload.journal import Limits
from services.upload.journal_sweeper import JournalSweeper
from services.upload.journals import Journals
from services.upload.open_uploads import LEASE, OpenUploads
from services.upload.redis_journal_store import LEASES, RedisJournalStore, lease_name
from services.upload.seal import Sealing
from services.upload.servicer import SERVICE, UploadServicer
from services.upload.settings import UploadSettings
from services.upload.signatures import Signatures
from services.upload.signing import Signing
from services.upload.signing_servicer import SigningServicer
from services.upload.sweeper import Sweeper
from services.upload.uploads import Uploads


async def _serve(settings: UploadSettings) -> None:
    clock = SystemClock()
    redis = redis_client.connect(settings)
    async with (
        S3Objects.open(settings) as objects,
        S3Bytes.open(settings) as data,
        open_channel(settings.catalog_target, settings) as channel,
        open_channel(settings.ffmpeg_target, settings) as ffmpeg,
        redis,
    ):
        catalog = CatalogClient(channel)
        open_uploads = OpenUploads(redis, settings.upload_lease_seconds)
        buffers = Buffers(settings.upload_buffer_bytes)
        uploads = Uploads(
            objects=objects,
            data=data,
            catalog=catalog,
            open_uploads=open_uploads,
            buffers=buffers,
            max_bytes=settings.upload_max_bytes,
            idle_seconds=settings.upload_idle_seconds,
        )
        store = RedisJournalStore(redis)
        journals = Journals(
            store=store,
            objects=objects,
            data=data,
            catalog=catalog,
            clock=clock,
            open_per_owner=settings.append_open_per_owner,
            open_of_nobody=settings.append_open_of_nobody,
            idle_seconds=settings.append_idle_expiry_seconds,
        )
        appends = Appends(
            journals=journals,
            store=store,
            objects=objects,
            writer=ChunkWriter(objects, data),
            buffers=buffers,
            clock=clock,
            limits=Limits(
                chunks=settings.append_max_chunks,
                bytes=settings.upload_max_bytes,
                clips=settings.join_max_clips,
                clips_bytes=settings.join_max_bytes,
            ),
            most_bytes=settings.append_max_bytes,
            idle_seconds=settings.upload_idle_seconds,
            longest_seconds=settings.append_max_seconds,
            orphan_seconds=settings.append_orphan_seconds,
        )
        sealing = Sealing(journals, store, catalog, clock)
        compaction = Compaction(
            joiner=ClipJoiner(objects, ffmpeg, clock),
            sealing=sealing,
            store=store,
            objects=objects,
            data=data,
            catalog=catalog,
            lease=lambda video_id: Lease(redis, lease_name(video_id), settings.compaction_lease_seconds),
            clock=clock,
        )
        idle_pause, orphan_pause = settings.append_expiry_interval_seconds, settings.append_orphan_interval_seconds
        journal_sweeper = JournalSweeper(
            journals=journals,
            sealing=sealing,
            store=store,
            objects=objects,
            catalog=catalog,
            idle_lease=Lease(redis, LEASES + "idle", min(60.0, 3 * idle_pause + 1)),
            orphan_lease=Lease(redis, LEASES + "orphans", min(60.0, 3 * orphan_pause + 1)),
            clock=clock,
            idle_seconds=settings.append_idle_expiry_seconds,
            orphan_seconds=settings.append_orphan_seconds,
        )
        sweeper = Sweeper(
            objects=objects,
            catalog=catalog,
            open_uploads=open_uploads,
            lease=Lease(redis, LEASE, 3 * settings.upload_sweep_interval_seconds + 30),
            clock=clock,
            orphan_seconds=settings.upload_orphan_seconds,
        )

        signatures = Signatures(
            redis, clock, per_owner=settings.library_signed_per_owner, seconds=settings.library_signed_seconds
        )
        arrivals = ingest.Ingest(objects, channel, redis, signatures, lease=Lease(redis, ingest.LEASE, 15), clock=clock)
        signing = Signing(
            objects,
            catalog,
            signatures,
            max_bytes=settings.library_max_bytes,
            content_types=settings.library_types,
            seconds=settings.sign_seconds,
        )

        def register(grpc_server: grpc.aio.Server) -> None:
            UploadServicer(uploads, journals, appends, sealing, objects).register(grpc_server)
            signing_pb2_grpc.add_SigningServiceServicer_to_server(SigningServicer(signing, arrivals), grpc_server)

        async def redis_answers() -> None:
            with redis_client.redis_errors():
                await redis.ping()

        events_token = settings.ingest_events_token.get_secret_value()
        async with event_hook(settings.ingest_events_listen, events_token, arrivals.notice):
            await server.serve(
                settings,
                register,
                service_names=[SERVICE.full_name, "reelway.v1.SigningService"],
                ready={"S3": objects.check, "Redis": redis_answers},
                background=[
                    sweeper.run(settings.upload_sweep_interval_seconds),
                    compaction.run(settings.compaction_interval_seconds),
                    journal_sweeper.run_idle(idle_pause),
                    journal_sweeper.run_orphans(orphan_pause),
                    arrivals.run(settings.ingest_interval_seconds),
                ],
            )
        await uploads.undoing.wait()
        await appends.undoing.wait()


def main() -> None:
    """Serve until told to stop."""
    process.run("upload", UploadSettings, _serve)


if __name__ == "__main__":
    main()
