"""The door through which S3 event notifications come, and what no honest store sends."""

import asyncio

import pytest

from deploy.local.ports import free_port
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.event_hook import event_hook, named_keys


async def test_a_token_that_is_no_text_is_refused() -> None:
    async def notice(keys: list[str]) -> int:
        raise AssertionError(keys)

    port = free_port()
    async with event_hook(f"127.0.0.1:{port}", "token", notice):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\r\n")
        writer.write(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
        writer.close()


def test_a_notification_has_at_most_a_mebibyte() -> None:
    nothing = b'{"Records": []}'
    assert named_keys(nothing.ljust(2**20)) == []
    with pytest.raises(ReelwayError) as refused:
        named_keys(nothing.ljust(2**20 + 1))
    assert refused.value.reason is ErrorReason.INVALID_REQUEST
