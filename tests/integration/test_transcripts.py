"""Transcripts in the catalogue: asked for, answered, replaced, kept and swept; on real Redis and both S3 servers."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from reelway.v1 import catalog_pb2, ffmpeg_pb2, media_pb2, transcript_pb2

from services.catalog import transcript_sweeper
from services.catalog.catalog import PAGE_SIZE_MAX
from services.catalog.journal_changes import JournalChanges
from services.catalog.memberships import TRANSCRIBING
from services.catalog.rebuild import rebuild
from services.catalog.transcript_servicer import TranscriptServicer
from services.catalog.transcript_state import TRANSITIONS, UNDER_WAY, step
from services.catalog.transcript_sweeper import TranscriptSweeper
from services.catalog.transcripts import Hearing, Transcripts
from services.common.caller import SYSTEM_USER
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.object_keys import captions_key, document_key
from tests.support.foundation import Foundation, as_user, finished_video

ANNA, BORIS = "anna", "boris"
PENDING, RUNNING = media_pb2.TRANSCRIPT_STATE_PENDING, media_pb2.TRANSCRIPT_STATE_RUNNING
COMPLETED, FAILED = media_pb2.TRANSCRIPT_STATE_COMPLETED, media_pb2.TRANSCRIPT_STATE_FAILED
BASE = Hearing("faster-whisper", "", "")


def transcripts(parts: Foundation, hearing: Hearing = BASE) -> Transcripts:
    return Transcripts(parts.catalog, parts.objects, parts.clock, hearing)


async def new_video(parts: Foundation, owner: str = ANNA, state: str = "READY", *, whole: bool = True) -> str:
    video = finished_video(media_pb2.CONTAINER_WEBM)
    if whole:
        await parts.objects.put(video.object_key, b"bytes", "video/webm")
        await parts.catalog.create(video, owner)
        return video.video_id
    growing = media_pb2.Video(video_id=video.video_id, state=media_pb2.VIDEO_STATE_UPLOADING)
    await parts.catalog.create(growing, owner)
    if state == "READY":
        seal = catalog_pb2.SealVideoRequest(
            video_id=video.video_id, size_bytes=5, etag=video.etag, container=video.container
        )
        await JournalChanges(parts.catalog, parts.clock).seal(seal)
    return video.video_id


async def made(parts: Foundation, video_id: str, request: int, text: str, hearing: Hearing = BASE) -> media_pb2.Video:
    """A worker's outcome: objects first."""
    video = await parts.videos.get(video_id)
    assert video is not None
    language = hearing.language_of(video.transcript)
    key = f"transcripts/{video_id}/{hearing.key(video, language)}"
    await parts.objects.put(captions_key(key), f"WEBVTT\n\n{text}".encode(), "text/vtt")
    await parts.objects.put(document_key(key), b"{}", "application/json")
    result = media_pb2.TranscriptResult(text=text, key=key, language="en")
    outcome = transcript_pb2.FinishTranscriptRequest(video_id=video_id, request=request, result=result)
    return await transcripts(parts, hearing).finish(outcome)


async def refused(reason: ErrorReason, parts: Foundation, user: str, video_id: str, tag: str = "") -> None:
    with pytest.raises(ReelwayError) as raised:
        await transcripts(parts).request(user, video_id, tag, first_only=False)
    assert raised.value.reason is reason


async def due(parts: Foundation) -> list[str]:
    now = parts.clock.seconds() + 60
    return await parts.videos.claim(TRANSCRIBING, now, now + 1, 100)


async def test_from_a_request_to_words_that_a_rebuild_finds_again(parts: Foundation) -> None:
    video_id = await new_video(parts)
    told = transcripts(parts)
    asked = await told.request(ANNA, video_id, "en-GB", first_only=True)
    assert (asked.state, asked.request, asked.requested_language) == (PENDING, 1, "en")
    assert await told.request(ANNA, video_id, "en", first_only=False) == asked
    assert await due(parts) == [video_id]
    assert (await told.start(video_id, 1)).transcript.state == RUNNING
    assert await told.captions(ANNA, video_id) == (await parts.videos.get(video_id), "")

    done = await made(parts, video_id, 1, "What was said")
    assert (done.transcript.state, done.transcript.result.text) == (COMPLETED, "What was said")
    assert done.transcript.result.finish_time.seconds >= asked.request_time.seconds > 0
    assert await due(parts) == []
    assert (await told.captions(ANNA, video_id))[1] == "WEBVTT\n\nWhat was said"
    again = await made(parts, video_id, 1, "Another attempt of the same job")
    assert again.transcript.result.text == "What was said"
    assert (await told.start(video_id, 1)).transcript.state == COMPLETED, "what has ended begins no more"
    assert (await told.request(ANNA, video_id, "en", first_only=False)).request == 1

    record = json.loads(await parts.bytes_of(f"catalog/{video_id}.json"))
    assert record["transcript"]["result"]["text"] == "What was said"
    waits = await new_video(parts)
    await told.request(ANNA, waits, "", first_only=True)
    lease = parts.rebuild_lease()
    assert await lease.take()
    await rebuild(parts.records, parts.objects, parts.videos, lease, writers_seconds=0)
    kept = await parts.videos.get(video_id)
    assert kept is not None
    assert kept.transcript.result.text == "What was said"
    assert await due(parts) == [waits]


async def test_a_transcript_is_replaced_in_one_step_and_the_old_one_swept(
    parts: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_id = await new_video(parts)
    other = Hearing("openai", "large", "")
    await transcripts(parts).request(ANNA, video_id, "", first_only=True)
    old = (await made(parts, video_id, 1, "The old words")).transcript.result.key

    # Another model makes another transcript; until it is there the old one is told.
    assert (await transcripts(parts, other).request(ANNA, video_id, "", first_only=True)).request == 1
    asked = await transcripts(parts, other).request(ANNA, video_id, "", first_only=False)
    assert (asked.state, asked.request, asked.result.text) == (PENDING, 2, "The old words")
    await refused(ErrorReason.TRANSCRIPT_UNDER_WAY, parts, ANNA, video_id, "de")
    # What the first request's job still has to say is not heard.
    assert (await made(parts, video_id, 1, "Too late")).transcript.state == PENDING
    await transcripts(parts, other).start(video_id, 2)
    new = (await made(parts, video_id, 2, "The new words", other)).transcript
    assert (new.state, new.result.text) == (COMPLETED, "The new words")

    async def swept_meanwhile(_: str) -> None:
        monkeypatch.undo()

    monkeypatch.setattr(parts.objects, "get", swept_meanwhile)
    assert (await transcripts(parts).captions(ANNA, video_id))[1] == "WEBVTT\n\nThe new words"

    await parts.objects.put(f"transcripts/{video_id}/pieces/x/0-1.json", b"{}", "application/json")
    await parts.objects.put("transcripts/unknown/y.vtt", b"", "text/vtt")
    deleted = await new_video(parts)
    await parts.catalog.delete(ANNA, deleted)
    await parts.objects.put(f"transcripts/{deleted}/late.vtt", b"", "text/vtt")
    lease = Lease(parts.redis, "{catalog}:lease:test", 60)
    sweeper = TranscriptSweeper(parts.objects, parts.videos, lease, parts.clock)
    assert await sweeper.sweep() == 0
    monkeypatch.setattr(transcript_sweeper, "KEEP", timedelta(hours=-1))
    assert await sweeper.sweep() == 4
    left = {info.key async for info in parts.objects.list("transcripts/")}
    assert old != new.result.key
    assert left == {captions_key(new.result.key), document_key(new.result.key), "transcripts/unknown/y.vtt"}
    # So does another language.
    assert (await transcripts(parts, other).request(ANNA, video_id, "de", first_only=False)).request == 3


async def test_what_is_being_made_again_is_not_swept(parts: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its objects have the names of old ones, and the record does not name them before they are there."""
    video_id = await new_video(parts)
    other = Hearing("openai", "large", "")
    for request, hearing in enumerate((BASE, other), 1):
        await transcripts(parts, hearing).request(ANNA, video_id, "", first_only=False)
        await made(parts, video_id, request, "Words", hearing)
    await transcripts(parts).request(ANNA, video_id, "", first_only=False)
    monkeypatch.setattr(transcript_sweeper, "KEEP", timedelta(hours=-1))
    sweeper = TranscriptSweeper(parts.objects, parts.videos, Lease(parts.redis, "test", 60), parts.clock)
    assert await sweeper.sweep() == 0
    await made(parts, video_id, 3, "Words")
    assert await sweeper.sweep() == 2


def test_every_state_has_its_row_and_only_an_outcome_can_be_asked_for_again() -> None:
    assert set(TRANSITIONS) == set(media_pb2.TranscriptState.values())
    assert {state for state, after in TRANSITIONS.items() if PENDING in after} == set(TRANSITIONS) - UNDER_WAY
    transcript = media_pb2.Transcript(state=COMPLETED)
    with pytest.raises(ReelwayError) as raised:
        step(transcript, RUNNING)
    assert (raised.value.reason, transcript.state) == (ErrorReason.INTERNAL, COMPLETED)


async def test_a_failure_is_told_and_can_be_tried_again(parts: Foundation) -> None:
    video_id = await new_video(parts, owner="")
    told = transcripts(parts)
    await told.request("", video_id, "", first_only=True)
    failure = media_pb2.TranscriptFailure(reason="CRASHED", message="Transcription stopped unexpectedly")
    outcome = transcript_pb2.FinishTranscriptRequest(video_id=video_id, request=1, failure=failure)
    failed = (await told.finish(outcome)).transcript
    assert (failed.state, failed.failure.reason, failed.HasField("result")) == (FAILED, "CRASHED", False)
    assert (await told.request("", video_id, "", first_only=True)).state == FAILED
    again = await told.request("", video_id, "", first_only=False)
    assert (again.state, again.request, again.HasField("failure")) == (PENDING, 2, False)
    assert (await told.finish(outcome)).transcript.state == PENDING

    # Its job, too, may end without an outcome: it killed its workers, or was cancelled.
    names = []
    for error, why in (
        (
            ffmpeg_pb2.TaskError(reason="POISON", message="It stopped every worker"),
            ("POISON", "It stopped every worker"),
        ),
        (ffmpeg_pb2.TaskError(), ("CANCELLED", "Transcription was cancelled")),
    ):
        await told.request("", video_id, "", first_only=False)
        waiting = await parts.catalog.look_up(video_id)
        job = told.job(waiting)
        assert job is not None
        names.append((job.video.video_id, job.request_id))
        await told.give_up(waiting, error)
        failed = (await parts.catalog.look_up(video_id)).transcript
        assert (failed.state, failed.failure.reason, failed.failure.message) == (FAILED, *why)
    # Each try is one job, however often it is registered.
    name = f"transcribe-{BASE.key(waiting, '')}"
    assert names == [(video_id, f"{name}-2"), (video_id, f"{name}-3")]


async def test_who_may_ask_and_for_what(parts: Foundation) -> None:
    video_id = await new_video(parts)
    await refused(ErrorReason.NOT_THE_OWNER, parts, BORIS, video_id)
    await refused(ErrorReason.NOT_THE_OWNER, parts, "", video_id)
    await refused(ErrorReason.INVALID_REQUEST, parts, ANNA, video_id, "klingon")
    await refused(ErrorReason.VIDEO_NOT_FOUND, parts, ANNA, "nonsense")
    await refused(ErrorReason.VIDEO_NOT_FOUND, parts, ANNA, str(uuid4()))
    growing = await new_video(parts, state="UPLOADING", whole=False)
    await refused(ErrorReason.NOT_SEALED, parts, ANNA, growing)
    # Who is about to finish it may: it is heard once its bytes are there.
    assert (await transcripts(parts).request(ANNA, growing, "", first_only=True)).state == PENDING
    assert growing not in await due(parts)
    private = await parts.videos.get(video_id)
    assert private is not None
    private.is_private = True
    private.version += 1
    assert await parts.videos.replace(private, "")
    await refused(ErrorReason.VIDEO_NOT_FOUND, parts, BORIS, video_id)
    with pytest.raises(ReelwayError) as raised:
        await transcripts(parts).captions(BORIS, video_id)
    assert raised.value.reason is ErrorReason.VIDEO_NOT_FOUND

    servicer = TranscriptServicer(transcripts(parts))
    start = transcript_pb2.StartTranscriptRequest(video_id=video_id, request=1)
    finish = transcript_pb2.FinishTranscriptRequest(video_id=video_id, request=1)
    for user in ("", ANNA):
        as_user(user)
        with pytest.raises(ReelwayError) as raised:
            await servicer.StartTranscript(start, None)
        assert raised.value.reason is ErrorReason.UNAUTHENTICATED
        with pytest.raises(ReelwayError) as raised:
            await servicer.FinishTranscript(finish, None)
        assert raised.value.reason is ErrorReason.UNAUTHENTICATED
    as_user(SYSTEM_USER)
    assert (await servicer.StartTranscript(start, None)).video.video_id == video_id
    with pytest.raises(ReelwayError) as raised:
        await servicer.FinishTranscript(finish, None)
    assert raised.value.reason is ErrorReason.INVALID_REQUEST, "it names no outcome"
    finish.failure.reason = "TOO_LONG"
    await parts.catalog.delete(ANNA, video_id)
    with pytest.raises(ReelwayError) as raised:
        await servicer.FinishTranscript(finish, None)
    assert raised.value.reason is ErrorReason.VIDEO_NOT_FOUND


async def test_a_sealed_recording_waits_until_it_is_one_object(parts: Foundation) -> None:
    video_id = await new_video(parts, whole=False)
    assert (await transcripts(parts).request(ANNA, video_id, "", first_only=True)).state == PENDING
    assert await due(parts) == []
    video = await parts.videos.get(video_id)
    assert video is not None
    video.object_key = f"videos/{video_id}.webm"
    video.version += 1
    assert await parts.videos.replace(video, "mark")
    assert await due(parts) == [video_id]


async def long_talks(parts: Foundation, count: int) -> list[str]:
    """Videos three of which fill a message."""
    ids = [await new_video(parts) for _ in range(count)]
    for video_id in ids:
        await transcripts(parts).request(ANNA, video_id, "", first_only=True)
        await made(parts, video_id, 1, "words " * 100_000)
    return ids


async def sent(parts: Foundation) -> int:
    """Bytes that Redis has answered with so far."""
    return int((await parts.redis.info("stats"))["total_net_output_bytes"])


async def test_a_page_of_long_transcripts_fits_a_message(parts: Foundation) -> None:
    ids = await long_talks(parts, 13)
    written, found, token = await sent(parts), [], ""
    while True:
        page, token = await parts.catalog.page(ANNA, PAGE_SIZE_MAX, token)
        assert sum(video.ByteSize() for video in page) <= 2 * 2**20
        found += [video.video_id for video in page]
        if not token:
            break
    assert found == ids
    assert await sent(parts) - written < 2 * 13 * 600_000, "what does not fit on a page is not read for it"


async def test_a_long_list_of_transcripts_is_read_in_short_calls(parts: Foundation) -> None:
    """While Redis puts one answer together it has none for anybody else."""
    ids = await long_talks(parts, 7)
    assert [video.video_id for video in await parts.videos.records(ids)] == ids
    batches = [[video.video_id for video in await parts.videos.beginning(ids[at:])] for at in range(7)]
    assert batches == [ids[at : at + 4] for at in range(7)]
    assert [video.video_id for video in await parts.videos.beginning(["", *ids])] == ids[:4]
