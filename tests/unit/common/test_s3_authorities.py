"""An S3 whose certificate a private authority signed."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.settings import S3Settings, load
from tests.support.authority import Authority
from tests.support.servers import S3Server


@pytest.fixture
async def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Of an S3 on localhost, whose authority is the one of AWS_CA_BUNDLE."""

    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        if "Range" in request.headers:
            return web.Response(status=206, body=b"abc", headers={"Content-Range": "bytes 0-2/3"})
        return web.Response(headers={"ETag": '"e"'})

    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "server.pem").write_bytes(b"".join(authority.issue()))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem")
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.mark.parametrize("flags", [ssl.VERIFY_DEFAULT, ssl.VERIFY_X509_STRICT], ids=["as it is", "as Python 3.13 is"])
async def test_all_clients_of_the_store_trust_the_same_authority(
    port: int, flags: ssl.VerifyFlags, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK alone would be ready to serve videos of which no byte can be read."""
    make = ssl.create_default_context

    def with_flags(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        context = make(*args, **kwargs)
        context.verify_flags |= flags
        return context

    monkeypatch.setattr(ssl, "create_default_context", with_flags)
    settings = S3Server.at(f"https://localhost:{port}").settings
    async with S3Objects.open(settings) as objects, S3Bytes.open(settings) as data:
        await objects.check()
        assert await data.put("videos/a.mp4", "video/mp4", 3, b"abc") == '"e"'
        assert b"".join([piece async for piece in data.read("videos/a.mp4", 0, 3)]) == b"abc"


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_of_no_authorities_is_refused_by_name(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(path))
    with pytest.raises(SystemExit):
        load(S3Settings, S3_BUCKET="bucket")
    assert capsys.readouterr().err == "settings: AWS_CA_BUNDLE: no file of certificates (PEM)\n"
