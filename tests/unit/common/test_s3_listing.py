"""How much of a listing is asked for at a time."""

import xml.etree.ElementTree as ET

from aiohttp import web

from services.common.s3_objects import S3Objects
from tests.support.http_server import serving
from tests.support.servers import S3Server

KEYS = [f"journal/{number // 100}/{number:03}" for number in range(450)]


async def test_a_page_is_short_since_all_else_waits_while_it_is_parsed() -> None:
    """A store answers with as many keys as it is asked for, up to 1000: those take some 100 ms."""
    pages: list[int] = []

    async def list_keys(request: web.Request) -> web.Response:
        begin, most = int(request.query.get("continuation-token", 0)), int(request.query.get("max-keys", 1000))
        answer = ET.Element("ListBucketResult")
        for key in KEYS[begin : begin + most]:
            row = ET.SubElement(answer, "Contents")
            for name, text in {"Key": key, "Size": "3", "ETag": '"1"', "LastModified": "2026-11-22T18:00:00Z"}.items():
                ET.SubElement(row, name).text = text
        pages.append(len(answer))
        if begin + most < len(KEYS):
            ET.SubElement(answer, "IsTruncated").text = "true"
            ET.SubElement(answer, "NextContinuationToken").text = str(begin + most)
        return web.Response(body=ET.tostring(answer), content_type="application/xml")

    async with serving(list_keys) as port:
        server = S3Server(f"http://127.0.0.1:{port}", "key", "secret", "us-east-1", "bucket")
        async with S3Objects.open(server.settings) as objects:
            assert [info.key async for info in objects.list("journal/")] == KEYS
            folders = [(name, len(found)) async for name, found in objects.folders("journal/")]
    assert pages == 2 * [200, 200, 50]
    assert folders == [("0", 100), ("1", 100), ("2", 100), ("3", 100), ("4", 50)]
