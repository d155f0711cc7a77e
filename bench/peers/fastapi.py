"""The straightforward server, `bench.fastapi_server`."""

import json
import sys
from pathlib import Path

from bench.load import Load, Request
from bench.peers import answers, range_header
from bench.peers.form import send_form
from bench.processes import ProcessSet
from bench.storage import Storage, StoredVideo
from deploy.local.ports import free_port
from deploy.local.process import Process, inherited

START_SECONDS = 20.0
STOP_SECONDS = 5.0


class FastApi:
    """One uvicorn process, as `uvicorn main:app` starts it."""

    name = "fastapi"
    title = "FastAPI + boto3"
    caches = False

    def __init__(self, storage: Storage, folder: Path) -> None:
        self._storage = storage
        self._folder = folder
        self._port = 0
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        log = self._folder / "fastapi.log"
        arguments = [sys.executable, "-m", "uvicorn", "bench.fastapi_server:app", "--no-access-log"]
        arguments += ["--host", "127.0.0.1", "--port", str(self._port)]
        self._process = Process("fastapi", arguments, inherited(**self._storage.env), log)
        url = f"http://127.0.0.1:{self._port}/docs"
        await self._process.start_answering(lambda: answers(url), START_SECONDS)

    async def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            await self._process.stop(STOP_SECONDS)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self._port

    @property
    def processes(self) -> ProcessSet | None:
        """The one process."""
        return ProcessSet({self.name: [self._process.pid]}) if self._process else None

    def get(self, video: StoredVideo, start: int = 0, length: int | None = None) -> Request:
        """A GET of its streaming route."""
        head = f"GET /videos/{video.video_id}/stream HTTP/1.1\r\nHost: bench\r\n{range_header(start, length)}\r\n"
        return Request(head, video.size if length is None else length)

    def upload(self, source: Path) -> tuple[Load, StoredVideo]:
        """A multipart form."""
        done = send_form(self.address, "/videos", "video", source)
        answer = json.loads(done.body)
        return done, StoredVideo(answer["id"], answer["key"], source.stat().st_size)
