"""Dialect 000 from a client's side, and the services' side where a test has to look or arrange something."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
from multidict import CIMultiDict
from reelway.v1 import catalog_pb2, catalog_pb2_grpc

from deploy.local.ports import free_port
from deploy.local.process import Process
from deploy.local.replica import Replica
from services.common.call_token import CallTokens
from services.common.caller import TOKEN_KEY, Caller
from services.common.s3_objects import S3Objects
from tests.support.forked import Forked
from tests.support.foundation import finished_video
from tests.support.system import RunningSystem

BOUNDARY = "----boundary-of-the-tests"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def form(*parts: bytes, end: bytes = f"--{BOUNDARY}--\r\n".encode()) -> bytes:
    return b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in parts) + end


def file_part(data: bytes, field: str = "video") -> bytes:
    return f'Content-Disposition: form-data; name="{field}"; filename="a.mp4"\r\n\r\n'.encode() + data


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: CIMultiDict[str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """Its body as JSON."""
        return json.loads(self.body)


class VideosApi:
    """A client of one base URL."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self.session, self.base_url = session, base_url

    async def call(self, method: str, path: str, headers: Mapping[str, str] | None = None, data: Any = None) -> Reply:
        """One request; no redirect is followed."""
        async with self.session.request(
            method, self.base_url + path, headers=headers, data=data, allow_redirects=False
        ) as answer:
            return Reply(answer.status, CIMultiDict(answer.headers), await answer.read())

    async def get(self, path: str, **headers: str) -> Reply:
        """A GET; header names are written with underscores."""
        return await self.call("GET", path, {name.replace("_", "-"): value for name, value in headers.items()})

    async def head(self, path: str, **headers: str) -> Reply:
        """A HEAD, likewise."""
        return await self.call("HEAD", path, {name.replace("_", "-"): value for name, value in headers.items()})

    async def upload(
        self,
        data: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        name: str = "clip.mp4",
        content_type: str = "video/mp4",
        path: str = "/videos",
    ) -> Reply:
        """POST of a form with the one file."""
        form = aiohttp.FormData()
        form.add_field("video", data, filename=name, content_type=content_type)
        return await self.call("POST", path, headers, form)

    async def new_video(self, data: bytes, headers: Mapping[str, str] | None = None) -> str:
        """The id of a video that was uploaded."""
        reply = await self.upload(data, headers)
        assert reply.status == 201, reply.body
        video_id: str = reply.json["id"]
        return video_id


@asynccontextmanager
async def videos_api(base_url: str) -> AsyncIterator[VideosApi]:
    """A client with connections of its own."""
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        yield VideosApi(session, base_url)


@asynccontextmanager
async def more(
    system: RunningSystem, name: str, launch: type[Process] = Forked, /, **env: str
) -> AsyncIterator[Replica]:
    """One more process of a service of the running system, at an address of its own, with more environment."""
    model = system.process(name)
    listen = f"127.0.0.1:{free_port()}"
    env = {
        **model.env,
        "GRPC_LISTEN": listen,
        "HOST": "127.0.0.1",
        "PORT": listen.rpartition(":")[2],
        "METRICS_LISTEN": "",
        **env,
    }
    replica = Replica(
        model.service,
        f"{name}-{listen}",
        listen=listen,
        env=env,
        output=system.log_dir / f"{name}-{listen}.log",
        stop_seconds=10,
        launch=launch,
    )
    await replica.start()
    try:
        yield replica
    finally:
        await replica.process.kill()


@asynccontextmanager
async def several(*processes: Any) -> AsyncIterator[list[Replica]]:
    """Enters `more(…)` several times at once: most of a start is waiting."""
    entered = await asyncio.gather(*(process.__aenter__() for process in processes))
    try:
        yield list(entered)
    finally:
        await asyncio.gather(*(process.__aexit__(None, None, None) for process in processes))


async def video_ids(objects: S3Objects) -> set[str]:
    """Of all videos that have bytes or a record in the store.

    Not the keys: the system looks into earlier videos and compacts them meanwhile, which makes objects of theirs.
    """
    kept = [info.key for prefix in ("videos/", "catalog/") async for info in objects.list(prefix)]
    return {key.partition("/")[2].partition(".")[0] for key in kept}


async def multiparts(objects: S3Objects) -> list[str]:
    """Keys of uploads that are under way in the store."""
    return [info.key async for info in objects.list_multiparts("videos/")]


async def is_under_way(objects: S3Objects) -> bool:
    """Whether any upload is."""
    return bool(await multiparts(objects))


async def none_under_way(objects: S3Objects) -> bool:
    """Whether all that were begun are done or removed."""
    return not await is_under_way(objects)


class CatalogSide:
    """Calls to the catalog in a user's name, as the gateway makes them."""

    def __init__(self, system: RunningSystem, channel: grpc.aio.Channel) -> None:
        secret = system.process("catalog").env.get("SERVICE_TOKEN_SECRET")
        self._tokens = CallTokens(secret) if secret else None
        self._stub: catalog_pb2_grpc.CatalogServiceAsyncStub = catalog_pb2_grpc.CatalogServiceStub(channel)

    def metadata(self, user: str) -> tuple[tuple[str, str | bytes], ...]:
        """What a call in the name of a user carries."""
        if self._tokens is None:
            return Caller(user).metadata()
        return ((TOKEN_KEY, f"Bearer {self._tokens.make(user)}"),)

    async def finished(self, user: str) -> str:
        """The id of a new video, finished, of which there is nothing but the record."""
        video = finished_video()
        request = catalog_pb2.CreateVideoRequest(video=video)
        await self._stub.CreateVideo(request, metadata=self.metadata(user), timeout=10)
        return video.video_id

    async def make_private(self, video_id: str, user: str, private: bool = True) -> None:
        """Hide a video from all but its owner."""
        request = catalog_pb2.UpdateVideoRequest(video_id=video_id, is_private=private)
        await self._stub.UpdateVideo(request, metadata=self.metadata(user), timeout=10)

    async def delete(self, video_id: str, user: str = "") -> None:
        """Delete it."""
        request = catalog_pb2.DeleteVideoRequest(video_id=video_id)
        await self._stub.DeleteVideo(request, metadata=self.metadata(user), timeout=10)

    async def get(self, video_id: str, user: str = "") -> Any:
        """Its record."""
        request = catalog_pb2.GetVideoRequest(video_id=video_id)
        return (await self._stub.GetVideo(request, metadata=self.metadata(user), timeout=10)).video


@asynccontextmanager
async def catalog_side(system: RunningSystem) -> AsyncIterator[CatalogSide]:
    """The running system's catalog."""
    async with grpc.aio.insecure_channel(system.process("catalog").listen) as channel:
        yield CatalogSide(system, channel)


class Raw:
    """A connection whose every byte is ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, base_url: str) -> "Raw":
        host, _, port = base_url.removeprefix("http://").rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def status(self) -> int:
        line = await asyncio.wait_for(self.reader.readline(), 30)
        return int(line.split()[1])

    def reset(self) -> None:
        self.writer.transport.abort()
