"""How requests to the store are signed, as the store sees them."""

import contextlib
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from services.common.errors import ReelwayError
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.settings import S3Settings
from tests.support.http_server import serving


async def test_temporary_credentials_go_with_their_token_everywhere() -> None:
    """Without it a store knows no such key."""
    seen: list[tuple[str, str]] = []

    async def missing(request: web.Request) -> web.Response:
        seen.append((request.headers.get("X-Amz-Security-Token", ""), request.headers["Authorization"]))
        return web.Response(status=404)

    async with serving(missing) as port:
        settings = S3Settings.model_validate(
            {
                "s3_endpoint_url": f"http://127.0.0.1:{port}",
                "S3_BUCKET": "bucket",
                "aws_access_key_id": "ASIAKEY",
                "aws_secret_access_key": "secret",
                "aws_session_token": "for an hour",
            }
        )
        async with S3Objects.open(settings) as objects, S3Bytes.open(settings) as data:
            assert await objects.head("key") is None
            with contextlib.suppress(ReelwayError):
                [piece async for piece in data.read("key", 0, 1)]
            url = await objects.presign_get("key", 60, "", "")
            _, fields = await objects.presign_post("key", "video/mp4", 10, 60)
    assert len(seen) >= 2
    assert all(token == "for an hour" and "x-amz-security-token" in signed for token, signed in seen)
    assert parse_qs(urlsplit(url).query)["X-Amz-Security-Token"] == ["for an hour"]
    assert fields["x-amz-security-token"] == "for an hour"
