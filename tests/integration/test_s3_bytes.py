"""The byte path to the store, on both servers: exact ranges, broken connections, the request's id."""

import asyncio
import dataclasses
import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from yarl import URL

from gateway.request_body import send_continue
from services.common.backoff import Backoff
from services.common.byte_messages import Buffer
from services.common.caller import NOBODY, Caller, set_caller
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.s3_bytes import S3Bytes
from services.common.s3_clients import REQUEST_ID_HEADER
from services.common.s3_objects import S3Objects, Slice
from tests.support.chaos_proxy import ChaosProxy, chaos_proxy
from tests.support.clips import mp4_of
from tests.support.foundation import Store
from tests.support.http_server import serving
from tests.support.journal_client import refusal
from tests.support.servers import S3Server

KEY = "videos/00000000-0000-4000-8000-000000000000.mp4"
SIZE = 2_000_003
DATA = mp4_of(SIZE)


@pytest.fixture(scope="module")
async def store(each_store: Store) -> Store:
    await each_store.objects.put(KEY, DATA, "video/mp4")
    return each_store


async def read(store: S3Bytes, key: str, offset: int, length: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, offset, length)])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.integers(0, SIZE - 1), st.integers(1, SIZE))
@example(0, SIZE)
@example(SIZE - 1, 1)
@example(0, 1)
@example(65_535, 2)
async def test_a_read_gives_exactly_these_bytes(store: Store, offset: int, length: int) -> None:
    length = min(length, SIZE - offset)
    assert await read(store.store, KEY, offset, length) == DATA[offset : offset + length]


async def test_what_is_not_there_is_not_found(store: Store) -> None:
    assert await refusal(read(store.store, "videos/nothing.mp4", 0, 10)) is ErrorReason.VIDEO_NOT_FOUND
    assert await refusal(read(store.store, KEY, SIZE, 10)) is ErrorReason.VIDEO_NOT_FOUND


async def test_a_range_that_is_partly_there_is_no_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer bytes than were promised must never look like all of them."""
    monkeypatch.setattr("services.common.s3_bytes._READS", Backoff(first_seconds=0))
    assert await refusal(read(store.store, KEY, SIZE - 5, 10)) is ErrorReason.STORE_UNAVAILABLE


async def test_wrong_keys_are_no_fault_of_the_video_s(juicefs_store: Store) -> None:
    """moto looks at no signature."""
    wrong = dataclasses.replace(juicefs_store.server, secret_key="a-wrong-secret-key")
    async with S3Bytes.open(wrong.settings) as store, S3Objects.open(wrong.settings) as objects:
        assert await refusal(read(store, KEY, 0, 10)) is ErrorReason.STORE_UNAVAILABLE
        # Nor does a store that refuses to look say that there is nothing: what has no object is removed, or made again.
        for call in (
            objects.get(KEY),
            objects.head(KEY),
            objects.copy_if(KEY, "videos/copy.mp4", "video/mp4", '"e"'),
            objects.copy_part("videos/copy.mp4", "upload", 1, Slice(KEY, 0, 5)),
            objects.list_parts("videos/copy.mp4", "upload"),
            objects.complete_multipart("videos/copy.mp4", "upload", []),
            objects.abort_multipart("videos/copy.mp4", "upload"),
        ):
            assert await refusal(call) is ErrorReason.STORE_UNAVAILABLE


@pytest.fixture
async def broken(s3_server: S3Server, store: Store) -> AsyncIterator[tuple[S3Bytes, ChaosProxy]]:
    async with (
        chaos_proxy(s3_server.endpoint_url) as proxy,
        S3Bytes.open(dataclasses.replace(store.server, endpoint_url=proxy.url).settings) as reader,
    ):
        yield reader, proxy


async def test_a_read_resumes_where_the_connection_broke(broken: tuple[S3Bytes, ChaosProxy]) -> None:
    reader, proxy = broken
    proxy.break_downloads(700_000, 300_000, 100, 500_000)
    got = await read(reader, KEY, 12_345, SIZE - 12_345)
    assert got == DATA[12_345:]
    assert proxy.unused == 0


async def test_a_store_that_stays_away_ends_a_read(broken: tuple[S3Bytes, ChaosProxy]) -> None:
    reader, proxy = broken
    proxy.break_downloads(600_000)
    chunks = reader.read(KEY, 0, SIZE)
    got = bytes(await anext(chunks))
    proxy.go_down()
    with pytest.raises(ReelwayError) as refused:
        while True:
            got += await anext(chunks)
    assert refused.value.reason is ErrorReason.STORE_UNAVAILABLE
    assert DATA.startswith(got)
    assert proxy.connections <= 10, "tries are bounded, and the HTTP client makes two of each"


async def test_a_part_is_written_and_read_back(store: Store) -> None:
    upload_id = await store.objects.create_multipart("videos/parts.mp4", "video/mp4")
    parts = [mp4_of(5 * 2**20), b"the end"]
    etags = []
    for number, part in enumerate(parts, 1):

        async def body(part: bytes = part) -> AsyncIterator[Buffer]:
            yield memoryview(part)[:100]
            yield part[100:]

        etags.append(await store.store.put_part("videos/parts.mp4", upload_id, number, len(part), body))
    await store.objects.complete_multipart("videos/parts.mp4", upload_id, etags)
    assert await read(store.store, "videos/parts.mp4", 5 * 2**20 - 4, 11) == parts[0][-4:] + b"the end"


async def _one_piece(data: bytes) -> AsyncIterator[Buffer]:
    yield data


@pytest.mark.parametrize("whole", [True, False])
async def test_what_a_slow_store_has_not_taken_is_kept_once(whole: bool) -> None:
    """A transport copies what its socket does not take; this is more than the sockets of both ends do."""
    data, begun, wakes, got = mp4_of(16 * 2**20), asyncio.Event(), asyncio.Event(), hashlib.sha256()

    async def answer(request: web.Request) -> web.Response:
        begun.set()
        await wakes.wait()
        async for piece in request.content.iter_chunked(2**20):
            got.update(piece)
        return web.Response(headers={"ETag": '"e"'})

    async with serving(answer) as port, S3Bytes.open(S3Server.at(f"http://127.0.0.1:{port}").settings) as store:
        body = data if whole else lambda: _one_piece(data)
        tracemalloc.start()
        try:
            put = asyncio.create_task(store.put("videos/a.mp4", "video/mp4", len(data), body))
            await begun.wait()
            traced, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        wakes.set()
        assert await put == '"e"'
    assert got.digest() == hashlib.sha256(data).digest()
    assert traced < 2 * 2**20


async def test_the_request_s_id_goes_to_the_store() -> None:
    """Both clients send it, unsigned: a proxy may change it."""
    seen: list[tuple[str, str | None]] = []
    signed: list[bool] = []

    async def answer(request: web.Request) -> web.Response:
        await send_continue(request)
        await request.read()
        seen.append((request.method, request.headers.get(REQUEST_ID_HEADER)))
        signed.append(REQUEST_ID_HEADER in request.headers["Authorization"])
        if request.headers.get("Range"):
            return web.Response(status=206, body=b"0123456789", headers={"Content-Range": "bytes 0-9/10"})
        return web.Response(headers={"ETag": '"e"'})

    async def body() -> AsyncIterator[Buffer]:
        yield b"0123456789"

    set_caller(Caller("anna", "trace-me-2"))
    try:
        async with serving(answer) as port:
            there = S3Server.at(f"http://127.0.0.1:{port}").settings
            async with S3Bytes.open(there) as store, S3Objects.open(there) as objects:
                assert await read(store, "videos/a.mp4", 0, 10) == b"0123456789"
                await store.put_part("videos/a.mp4", "upload", 1, 10, body)
                await objects.put("catalog/a.json", b"{}", "application/json")
                await objects.delete("videos/a.mp4")
    finally:
        set_caller(NOBODY)
    assert seen == [(method, "trace-me-2") for method in ("GET", "PUT", "PUT", "DELETE")]
    assert not any(signed)


async def test_listings_have_every_page(juicefs_store: Store) -> None:
    """A page has a thousand rows."""
    names = [f"many/{number:04}" for number in range(1001)]
    for at in range(0, len(names), 50):
        await asyncio.gather(*(juicefs_store.objects.put(name, b"", "text/plain") for name in names[at : at + 50]))
    assert [info.key async for info in juicefs_store.objects.list("many/")] == names


async def test_a_finished_multipart_upload_may_be_finished_again(store: Store) -> None:
    """The answer to the first try was lost."""
    upload_id = await store.objects.create_multipart("videos/twice.mp4", "video/mp4")

    async def body() -> AsyncIterator[Buffer]:
        yield b"bytes"

    etag = await store.store.put_part("videos/twice.mp4", upload_id, 1, 5, body)
    for _ in range(2):
        await store.objects.complete_multipart("videos/twice.mp4", upload_id, [etag])
    assert await read(store.store, "videos/twice.mp4", 0, 5) == b"bytes"
    await store.objects.abort_multipart("videos/twice.mp4", upload_id)
    await store.objects.delete("videos/twice.mp4")
    await store.objects.delete("videos/twice.mp4")
    assert await store.objects.head("videos/twice.mp4") is None
    assert await store.objects.get("videos/twice.mp4") is None


async def test_a_copy_is_made_of_what_is_there_and_of_nothing_else(juicefs_store: Store) -> None:
    """moto looks at no entity tag of a source, and begins every upload in 2010."""
    objects, target = juicefs_store.objects, "videos/copy.mp4"
    await objects.put(KEY, DATA, "video/mp4")
    upload_id = await objects.create_multipart(target, "video/mp4")
    assert await objects.list_parts(target, upload_id) == {}
    assert await refusal(objects.copy_part(target, upload_id, 1, Slice("videos/nothing.mp4", 0, 5))) is (
        ErrorReason.VIDEO_NOT_FOUND
    )
    etag = await objects.copy_part(target, upload_id, 1, Slice(KEY, 5, 10))
    assert await objects.list_parts(target, upload_id) == {1: (10, etag)}
    assert await objects.abort_multiparts(target, datetime.now(UTC) - timedelta(days=1)) == 0
    assert await objects.abort_multiparts(target) == 1
    assert await objects.list_parts(target, upload_id) is None

    info = await objects.head(KEY)
    assert info is not None
    for source, known in (("videos/nothing.mp4", info.etag), (KEY, '"another"')):
        assert not await objects.copy_if(source, target, "video/webm", known)
        assert await objects.head(target) is None
    assert await objects.copy_if(KEY, target, "video/webm", info.etag)
    assert await objects.get(target) == DATA
    await objects.delete(target)


async def test_presigned_urls_give_what_they_say(store: Store) -> None:
    url = await store.objects.presign_get(KEY, 60, "application/octet-stream", 'attachment; filename="a b.mp4"')
    async with aiohttp.ClientSession() as http:
        async with http.get(URL(url, encoded=True), headers={"Range": "bytes=5-9"}) as answer:
            assert (answer.status, await answer.read()) == (206, DATA[5:10])
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert answer.headers["Content-Disposition"] == 'attachment; filename="a b.mp4"'
        async with http.get(store.objects.object_url(KEY)) as answer:
            assert answer.status in {200, 403}


async def test_presigned_urls_are_for_the_endpoint_that_clients_reach(juicefs_store: Store) -> None:
    given = juicefs_store.server.settings.model_copy(update={"s3_public_endpoint_url": "https://cdn.example"})
    async with S3Objects.open(given) as objects:
        assert (await objects.presign_get("videos/a.mp4", 60, "", "")).startswith(
            f"https://cdn.example/{juicefs_store.server.bucket}/videos/a.mp4?"
        )
        url, _ = await objects.presign_post("incoming/a", "video/mp4", 10, 60)
        assert url.rstrip("/") == f"https://cdn.example/{juicefs_store.server.bucket}"
        assert objects.object_url("videos/a.mp4") == (f"https://cdn.example/{juicefs_store.server.bucket}/videos/a.mp4")
