"""A client of dialect 003 on a running system."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import aiohttp

from tests.support.system import RunningSystem
from tests.support.waiting import until


@dataclass(frozen=True)
class Signed:
    """A signed upload."""

    hash_id: str
    url: str
    fields: dict[str, str]


class LibraryUser:
    """Somebody with a token; `anybody` has none."""

    def __init__(self, system: RunningSystem, http: aiohttp.ClientSession, user: UUID | None) -> None:
        self.system, self.http = system, http
        self.id = str(user or "")
        self.headers = system.authorization(user) if user else {}

    @classmethod
    def new(cls, system: RunningSystem, http: aiohttp.ClientSession) -> LibraryUser:
        return cls(system, http, uuid4())

    async def ask(self, method: str, path: str, expect: int = 200, **options: Any) -> Any:
        """The JSON of an answer with this status; None for an empty one."""
        headers = {**self.headers, **options.pop("headers", {})}
        url = self.system.base_url + path
        async with self.http.request(method, url, headers=headers, **options) as response:
            text = await response.text()
            assert response.status == expect, f"{method} {path}: {response.status} {text}"
            return json.loads(text) if text else None

    async def status(self, method: str, path: str, **options: Any) -> int:
        """The status of an answer, whatever its body."""
        async with self.http.request(method, self.system.base_url + path, headers=self.headers, **options) as response:
            await response.read()
            return response.status

    async def until_status(self, path: str, expect: int) -> None:
        async def is_answered_so() -> bool:
            return await self.status("GET", path) == expect

        await until(is_answered_so)

    async def sign(self, name: str = "clip.mp4", content_type: str = "video/mp4") -> Signed:
        query = {"file_name": name, "file_content_type": content_type}
        answer = await self.ask("GET", "/video/upload/", params=query)
        fields = answer["signatures"]
        return Signed(fields["key"].rpartition("/")[2], answer["url"], fields)

    async def post(self, signed: Signed, data: bytes, **changed: str) -> int:
        """POST the form as a browser would; the store's status."""
        form = aiohttp.FormData()
        for name, value in {**signed.fields, **changed}.items():
            form.add_field(name, value)
        form.add_field("file", data, filename="whatever.bin")
        async with self.http.post(signed.url, data=form) as response:
            await response.read()
            return response.status

    async def upload(self, data: bytes, name: str = "clip.mp4", content_type: str = "video/mp4") -> str:
        """Sign and POST; the hash_id."""
        signed = await self.sign(name, content_type)
        assert await self.post(signed, data) in {200, 201, 204}
        return signed.hash_id

    async def mine(self, hash_id: str) -> Any:
        """The draft or published video; None."""
        return next((v for v in (await self.ask("GET", "/video/my/"))["videos"] if v["hash_id"] == hash_id), None)

    async def unprocessed(self, hash_id: str) -> Any:
        """The entry of one that is no video yet; None."""
        found = (await self.ask("GET", "/video/my/"))["unprocessed_videos"]
        return next((v for v in found if v["hash_id"] == hash_id), None)

    async def draft(self, data: bytes, **options: Any) -> Any:
        """Upload, and wait for the draft."""
        hash_id = await self.upload(data, **options)
        return await self.until_mine(hash_id)

    async def until_mine(self, hash_id: str, seconds: float = 30) -> Any:
        async def is_there() -> bool:
            return await self.mine(hash_id) is not None

        await until(is_there, seconds)
        return await self.mine(hash_id)

    async def until_failed(self, hash_id: str, seconds: float = 30) -> Any:
        async def has_failed() -> bool:
            entry = await self.unprocessed(hash_id)
            return entry is not None and "failure_reason" in entry

        await until(has_failed, seconds)
        return await self.unprocessed(hash_id)

    async def publish(self, hash_id: str, title: str = "A title", **more: Any) -> None:
        await self.ask("PUT", f"/video/my/{hash_id}", 204, json={"title": title, "description": "What it is", **more})
