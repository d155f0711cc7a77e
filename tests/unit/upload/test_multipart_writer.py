"""The order in which an upload that is given up is undone: a store that is slow at the wrong moment can't be had."""

import asyncio
from typing import Any

import pytest

from services.upload.buffers import Buffers
from services.upload.multipart_writer import MultipartWriter
from services.upload.part_plan import PART


class SlowStore:
    """Takes its time to complete an upload."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.completing, self.may_complete = asyncio.Event(), asyncio.Event()

    async def create_multipart(self, key: str, content_type: str) -> str:
        return "upload"

    async def complete_multipart(self, key: str, upload_id: str, etags: list[str]) -> None:
        self.calls.append("completing")
        self.completing.set()
        await self.may_complete.wait()
        self.calls.append("completed")

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        self.calls.append("abort")

    async def delete(self, key: str) -> None:
        self.calls.append("delete")


async def test_nothing_is_deleted_while_the_store_may_still_make_it() -> None:
    objects: Any = SlowStore()
    store: Any = None

    async def upload() -> None:
        async with MultipartWriter(objects, store, "key", "video/mp4", room=Buffers(PART).reserve(None)) as writer:
            await writer.complete()

    work = asyncio.create_task(upload())
    await objects.completing.wait()
    work.cancel()
    for _ in range(20):  # what must not happen would happen in these turns of the loop
        await asyncio.sleep(0)
    assert objects.calls == ["completing"]
    objects.may_complete.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert objects.calls == ["completing", "completed", "abort", "delete"]
