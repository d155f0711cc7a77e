"""The catalog process: `python -m services.catalog [rebuild]`."""

from __future__ import annotations

import dataclasses
import json
import sys

import grpc
from reelway.v1 import catalog_pb2_grpc, library_pb2_grpc, transcript_pb2_grpc

from services.catalog.catalog import Catalog
from services.catalog.due_jobs import DueJobs
from services.catalog.journal_changes import JournalChanges
from services.catalog.library import Library
from services.catalog.library_servicer import LibraryServicer
from services.catalog.library_store import LibraryStore
from services.catalog.processing import Processing
from services.catalog.rebuild import LEASE_SECONDS, keep_index, rebuild
from services.catalog.record_store import RecordStore
from services.catalog.redis_video_store import LEASES, RedisVideoStore
from services.catalog.servicer import CatalogServicer
from services.catalog.settings import CatalogSettings
from services.catalog.sweeper import Sweeper
from services.catalog.transcript_servicer import TranscriptServicer
from services.catalog.transcript_sweeper import SWEEP_SECONDS, TranscriptSweeper
from services.catalog.transcripts import Hearing, Transcripts
from services.common import process, redis_client, server
from services.common.channel import open_channel
from services.common.clock import SystemClock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects


async def _serve(settings: CatalogSettings) -> None:
    clock = SystemClock()
    redis = redis_client.connect(settings, text=False)
    async with (
        S3Objects.open(settings) as objects,
        S3Bytes.open(settings) as data,
        open_channel(settings.ffmpeg_target, settings) as ffmpeg,
        redis,
    ):
        store, records = RedisVideoStore(redis, clock), RecordStore(objects, data)
        catalog = Catalog(store, records, objects, clock)
        journals = JournalChanges(catalog, clock)
        processing = Processing(catalog, objects, clock)
        library = LibraryServicer(Library(catalog, store, LibraryStore(redis), clock), processing, objects, clock)
        hearing = Hearing(settings.transcribe_engine, settings.transcribe_model, settings.transcribe_language)
        transcripts = Transcripts(catalog, objects, clock, hearing)
        duties = [DueJobs(duty, videos=store, ffmpeg=ffmpeg, clock=clock) for duty in (processing, transcripts)]
        sweeper = Sweeper(
            catalog,
            processing,
            store=store,
            lease=Lease(redis, LEASES + "sweep", 3 * settings.catalog_sweep_interval_seconds + 30),
            clock=clock,
            grace_seconds=settings.catalog_sweep_grace_seconds,
            signed_seconds=settings.library_signed_seconds,
        )

        def register(grpc_server: grpc.aio.Server) -> None:
            catalog_pb2_grpc.add_CatalogServiceServicer_to_server(CatalogServicer(catalog, journals), grpc_server)
            library_pb2_grpc.add_LibraryServiceServicer_to_server(library, grpc_server)
            transcript_pb2_grpc.add_TranscriptServiceServicer_to_server(TranscriptServicer(transcripts), grpc_server)

        async def index_is_there() -> None:
            if not await store.exists():
                raise ReelwayError(ErrorReason.INDEX_MISSING)

        await server.serve(
            settings,
            register,
            service_names=["reelway.v1.CatalogService", "reelway.v1.LibraryService", "reelway.v1.TranscriptService"],
            ready={"S3": objects.check, "Redis": index_is_there},
            background=[
                sweeper.run(settings.catalog_sweep_interval_seconds),
                *(each.run() for each in duties),
                TranscriptSweeper(objects, store, Lease(redis, LEASES + "transcripts", 3 * SWEEP_SECONDS), clock).run(),
                keep_index(records, objects, store, Lease(redis, LEASES + "rebuild", LEASE_SECONDS)),
            ],
            grace_seconds=server.SHORT_GRACE_SECONDS,
        )


async def _rebuild(settings: CatalogSettings) -> None:
    redis = redis_client.connect(settings, text=False)
    async with S3Objects.open(settings) as objects, S3Bytes.open(settings) as data, redis:
        records, store = RecordStore(objects, data), RedisVideoStore(redis, SystemClock())
        lease = Lease(redis, LEASES + "rebuild", LEASE_SECONDS)
        try:
            try:
                found = await rebuild(records, objects, store, lease)
            finally:
                await lease.release()
        except ReelwayError as error:
            raise SystemExit(f"rebuild: {error.message}") from None
    print(json.dumps(dataclasses.asdict(found)))  # noqa: T201 - the command's answer


def main() -> None:
    """Serve, or rebuild the index and print what was found as JSON."""
    match sys.argv[1:]:
        case []:
            process.run("catalog", CatalogSettings, _serve)
        case ["rebuild"]:
            process.run("catalog", CatalogSettings, _rebuild)
        case _:
            raise SystemExit("usage: python -m services.catalog [rebuild]")


if __name__ == "__main__":
    main()
