"""A job's outputs on two real S3 servers: whole or not there, fenced against stale attempts."""

import asyncio
import dataclasses
import os
import uuid
from pathlib import Path
from unittest.mock import AsyncMock

import aiohttp
import pytest

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.ffmpeg.job import JobFault
from services.ffmpeg.outputs import Outputs, key_of, type_of
from services.ffmpeg.worker.handler import NoLongerHeld
from tests.integration.job_outputs.rig import Notes, left, output
from tests.support.servers import S3Server
from tests.support.waiting import until

BIG = 17 * 2**20 + 7


async def test_outputs_of_any_size_and_name_arrive_whole(outputs: Outputs, objects: S3Objects, tmp_path: Path) -> None:
    job_id, big = str(uuid.uuid4()), os.urandom(BIG)
    files = [output(tmp_path, "big.mp4", big), output(tmp_path, "ein Bild ü+&.png", b"png")]
    notes = Notes()
    assert await outputs.publish(job_id, files, notes) == {"for big.mp4": BIG, "for ein Bild ü+&.png": 3}
    assert sorted(notes.uploads.values()) == sorted(key_of(job_id, file.name) for file in files)
    async with aiohttp.ClientSession() as http:
        for file, body in zip(files, (big, b"png"), strict=True):
            async with http.get(await outputs.sign(job_id, file.name, 60)) as response:
                assert await response.read() == body
                told = response.content_disposition
                assert told is not None
                assert (told.type, told.filename) == ("attachment", file.name)
                assert response.headers["Content-Type"] == type_of(file.name)
    open_files = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert [path for path in open_files if path.startswith(str(tmp_path))] == []


async def test_a_few_parts_of_an_output_are_on_their_way_at_a_time(
    outputs: Outputs, objects: S3Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, complete, notes = [0], AsyncMock(), Notes()

    async def put_part(key: str, upload_id: str, number: int, length: int, body: object) -> str:
        at_once.append(at_once[-1] + 1)
        await asyncio.sleep(0)
        at_once.append(at_once[-1] - 1)
        return f"{number}: {length}"

    monkeypatch.setattr("services.ffmpeg.outputs._PART_BYTES", 2)
    monkeypatch.setattr(outputs.data, "put_part", put_part)
    monkeypatch.setattr(objects, "complete_multipart", complete)
    await outputs.publish(str(uuid.uuid4()), [output(tmp_path, "a.mp4", b"10 letters")], notes)
    await outputs.abort_earlier(notes)
    assert (complete.call_args.args[2], max(at_once)) == ([f"{number}: 2" for number in range(1, 6)], 3)


@pytest.mark.parametrize("lost_at", ["begin", "end"])
async def test_an_attempt_that_lost_its_lease_shows_nothing(
    outputs: Outputs, objects: S3Objects, tmp_path: Path, lost_at: str
) -> None:
    job_id, notes = str(uuid.uuid4()), Notes()
    notes.lost_at = lost_at
    files = [output(tmp_path, "a.mp4", b"a"), output(tmp_path, "b.mp4", b"b")]
    with pytest.raises(NoLongerHeld):
        await outputs.publish(job_id, files, notes)
    assert await left(objects, job_id) == ([], [])


async def test_an_attempt_that_lost_its_lease_is_told_so_where_its_upload_cannot_be_aborted(
    outputs: Outputs, objects: S3Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    notes.lost_at = "end"

    async def never(key: str, upload_id: str) -> None:
        await asyncio.Event().wait()

    async def away(key: str, upload_id: str) -> None:
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    monkeypatch.setattr("services.ffmpeg.outputs._ABORT_SECONDS", 0.05)
    for fails in (never, away):
        monkeypatch.setattr(objects, "abort_multipart", fails)
        with pytest.raises(NoLongerHeld):
            await outputs.publish(str(uuid.uuid4()), [output(tmp_path, "a.mp4", b"a")], notes)


async def test_an_output_that_shrinks_while_it_is_stored_is_a_failure(
    outputs: Outputs, objects: S3Objects, tmp_path: Path
) -> None:
    job_id, file = str(uuid.uuid4()), output(tmp_path, "a.mp4", b"abc")
    with pytest.raises(JobFault, match="changed while it was stored") as raised:
        await outputs.publish(job_id, [dataclasses.replace(file, size=4)], Notes())
    assert raised.value.failure.reason == "OUTPUT_MISSING"
    assert await left(objects, job_id) == ([], [])


async def test_an_attempt_that_is_stopped_as_it_begins_an_upload_leaves_none(
    outputs: Outputs, objects: S3Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, begun, answered = str(uuid.uuid4()), asyncio.Event(), asyncio.Event()
    create = objects.create_multipart

    async def slowly(key: str, content_type: str) -> str:
        upload_id = await create(key, content_type)
        begun.set()
        await answered.wait()
        return upload_id

    monkeypatch.setattr(objects, "create_multipart", slowly)
    publishing = asyncio.create_task(outputs.publish(job_id, [output(tmp_path, "a.mp4", b"a")], Notes()))
    await begun.wait()
    # Each renewal of the lease and each look at the progress says it again.
    for _ in range(2):
        publishing.cancel()
        await asyncio.sleep(0.05)
    answered.set()
    with pytest.raises(asyncio.CancelledError):
        await publishing

    async def nothing_is_left() -> bool:
        return await left(objects, job_id) == ([], [])

    await until(nothing_is_left)


async def test_a_stale_attempt_cannot_overwrite_what_the_next_one_committed(
    juicefs_s3: S3Server, tmp_path: Path
) -> None:
    """It passed its last look at the lease, froze, and completes its uploads long after."""
    settings = juicefs_s3.settings
    async with S3Objects.open(settings) as objects, S3Bytes.open(settings) as data:
        await overtake(Outputs(objects, data), objects, tmp_path)


async def overtake(outputs: Outputs, objects: S3Objects, tmp_path: Path) -> None:
    job_id, stale_notes, frozen, woken = str(uuid.uuid4()), Notes(), asyncio.Event(), asyncio.Event()

    async def freeze() -> None:
        frozen.set()
        await woken.wait()

    stale_notes.still_held = freeze  # type: ignore[method-assign]
    stale = asyncio.create_task(outputs.publish(job_id, [output(tmp_path, "a.mp4", b"stale")], stale_notes))
    await frozen.wait()
    fresh_notes = Notes()
    fresh_notes.uploads = dict(stale_notes.uploads)
    await outputs.abort_earlier(fresh_notes)
    await outputs.publish(job_id, [output(tmp_path, "a.mp4", b"fresh")], fresh_notes)
    woken.set()
    await asyncio.gather(stale, return_exceptions=True)
    assert await objects.get(key_of(job_id, "a.mp4")) == b"fresh"


@pytest.mark.usefixtures("hasty_writes")
async def test_a_store_that_fails_leaves_nothing_to_see(
    s3_server: S3Server, objects: S3Objects, outputs: Outputs, tmp_path: Path
) -> None:
    dead = dataclasses.replace(s3_server, endpoint_url="http://127.0.0.1:9").settings
    job_id = str(uuid.uuid4())
    async with S3Bytes.open(dead) as data:
        with pytest.raises(ReelwayError):
            await Outputs(objects, data).publish(job_id, [output(tmp_path, "a.mp4", b"a")], Notes())
    assert await left(objects, job_id) == ([], [])
