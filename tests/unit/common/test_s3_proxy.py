"""What a proxy of the environment means for the store."""

import pytest
from aiohttp import web

from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from tests.support.http_server import serving
from tests.support.servers import S3Server


async def test_no_client_of_the_store_goes_by_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The byte path knows none: what gets ready must not hang on one, which carries no byte of a video."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(headers={"ETag": '"e"'})

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with serving(answer) as port:
        settings = S3Server.at(f"http://127.0.0.1:{port}").settings
        async with S3Objects.open(settings) as objects, S3Bytes.open(settings) as data:
            await objects.check()
            assert await data.put("videos/a.mp4", "video/mp4", 3, b"abc") == '"e"'
