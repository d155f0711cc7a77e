"""The straightforward server, `bench.fastapi_server`."""

import json
import sys
from pathlib import Path

from bench.load import Load, Request
from bench.peers import Server, answers, get_request
from bench.peers.form import send_form
from bench.storage import StoredVideo
from deploy.local.ports import free_port
from deploy.local.process import Process, inherited

START_SECONDS = 20.0


class FastApi(Server):
    """One uvicorn process, as `uvicorn main:app` starts it."""

    name = "fastapi"
    title = "FastAPI + boto3"
    caches = False

    async def start(self) -> None:
        """Start it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        log = self._folder / "fastapi.log"
        arguments = [sys.executable, "-m", "uvicorn", "bench.fastapi_server:app", "--no-access-log"]
        arguments += ["--host", "127.0.0.1", "--port", str(self._port)]
        self._process = Process("fastapi", arguments, inherited(**self.storage.env), log)
        url = f"http://127.0.0.1:{self._port}/docs"
        await self._process.start_answering(lambda: answers(url), START_SECONDS)

    def get(self, video: StoredVideo, start: int = 0, length: int | None = None) -> Request:
        """A GET of its streaming route."""
        return get_request("bench", f"/videos/{video.video_id}/stream", video, start, length)

    def upload(self, source: Path) -> tuple[Load, StoredVideo]:
        """A multipart form."""
        done = send_form(self.address, source)
        answer = json.loads(done.body)
        return done, StoredVideo(answer["id"], answer["key"], source.stat().st_size)
