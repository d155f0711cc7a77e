"""What is in a test's store, seen without the code under test."""

import asyncio
from typing import Any

from tests.support.servers import S3Server, sdk_session


def client_of(server: S3Server) -> Any:
    """A plain botocore client; it may be used in any thread, but is made in the one of the tests."""
    return sdk_session().create_client("s3", **server.client_arguments)


async def keys_of(server: S3Server, part: str) -> set[str]:
    """Keys that have `part` in them."""
    client = client_of(server)

    def look() -> set[str]:
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=server.bucket)
            return {row["Key"] for page in pages for row in page.get("Contents", ()) if part in row["Key"]}
        finally:
            client.close()

    return await asyncio.to_thread(look)


async def put_object(server: S3Server, key: str, data: bytes) -> None:
    """Store an object with the system's own rights, past every form."""
    client = client_of(server)

    def put() -> None:
        try:
            client.put_object(Bucket=server.bucket, Key=key, Body=data)
        finally:
            client.close()

    await asyncio.to_thread(put)
