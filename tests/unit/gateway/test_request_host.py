"""Where a request says that it came to, as answers repeat it."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from gateway.http_errors import response_of_http
from gateway.request_host import check_host, origin_of
from tests.support.http_server import Answer, serving, wire


async def tell(request: web.Request) -> web.Response:
    try:
        check_host(request)
        return web.Response(text=origin_of(request))
    except web.HTTPBadRequest as error:
        return response_of_http(error)


async def ask(host: str, target: str = "/") -> Answer:
    async with serving(tell) as port, wire(port) as connection:
        return await connection.ask("GET", target, host=host)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("video.example", "http://video.example"),
        ("Video.Example:8000", "http://video.example:8000"),
        ("video.example:80", "http://video.example"),
        ("video.example:", "http://video.example"),
        ("my_gateway-1:65535", "http://my_gateway-1:65535"),
        ("xn--bcher-kva.example", "http://xn--bcher-kva.example"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("[::1]", "http://[::1]"),
        ("[2001:DB8::1.2.3.4]:8000", "http://[2001:db8::102:304]:8000"),
    ],
)
async def test_answers_repeat_a_host_that_is_one(host: str, origin: str) -> None:
    assert (await ask(host)).body.decode() == origin


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a:b",
        "foo:65536",
        "h:-1",
        "h:+8",
        "h:80:80",
        ":80",
        "user@host",
        "user:password@host",
        "a%40b",
        "a b",
        "a,b",
        'a"b',
        "a'b",
        "a<b>",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "a\xfcb",
        "::1",
        "[::1",
        "[::1]x",
        "[]",
        "[1:2]",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "h:\xb2",
        "x" * 256,
    ],
    ids=lambda host: host[:20],
)
async def test_a_host_that_is_none_is_refused(host: str) -> None:
    """RFC 9112, section 3.2."""
    answer = await ask(host)
    assert (answer.status, json.loads(answer.body)) == (400, {"detail": "The Host is not valid"})


async def test_an_older_client_need_not_name_one() -> None:
    async with serving(tell) as port, wire(port) as connection:
        connection.writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await connection.head()).status == 200


@pytest.mark.parametrize("host", ["a:b", "h:99999", "h:+8", "a%40b", "a,b", "a'b", "[1:2]", "[v1.x]", "x" * 256])
async def test_nor_is_one_in_the_target_believed(host: str) -> None:
    assert (await ask("h", f"http://{host}/")).status == 400


async def test_a_target_may_name_its_host() -> None:
    """It comes before the Host, which must be one all the same (RFC 9112, section 3.2.2)."""
    assert (await ask("other", "http://video.example:8000/")).body == b"http://video.example:8000"
    assert (await ask("other", "http://user:password@video.example/")).body == b"http://video.example"
    assert (await ask("a:b", "http://video.example/")).status == 400
