"""Reelway itself, started as `make run` starts it."""

import json
import secrets
import sys
from pathlib import Path
from uuid import UUID

from bench.load import Load, Request
from bench.peers import Server, get_request
from bench.peers.form import send_form
from bench.processes import ProcessSet, python_modules
from bench.registry import OURS
from bench.storage import Storage, StoredVideo
from deploy.local.ports import free_port
from deploy.local.process import Process, inherited
from deploy.local.token import development_token

START_SECONDS = 60.0


class Reelway(Server):
    """`python -m deploy.local` with the shared S3 and Redis: gateways and services in processes of their own."""

    name = OURS
    title = "Reelway"
    caches = True
    stop_seconds = 20.0

    def __init__(self, storage: Storage, folder: Path, **environment: str) -> None:
        """`environment` is for its processes, and comes before the storage's."""
        super().__init__(storage, folder)
        self._environment = environment
        self._modules: dict[str, list[int]] = {}
        self._secret = secrets.token_hex(32)

    async def start(self) -> None:
        """Start all processes and wait until they are ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        env = inherited(
            **self.storage.env | self._environment,
            HOST="127.0.0.1",
            PORT=str(self._port),
            DATA_DIR=str(self._folder / "data"),
            LOG_DIR=str(self._folder),
            # No peer looks into what is uploaded; ours would read each object back while it is measured.
            SLOTS_PROBE="0",
            AUTH_JWT_SECRET=self._secret,
        )
        log = self._folder / "run.log"
        log.unlink(missing_ok=True)
        self._process = Process("reelway", [sys.executable, "-m", "deploy.local"], env, log)

        async def ready() -> bool:
            # The gateway is healthy before the services are; only the whole system says that it is ready.
            return "ready: " in log.read_text(errors="replace")

        await self._process.start_answering(ready, START_SECONDS)
        self._modules = python_modules(self._process.pid)

    @property
    def processes(self) -> ProcessSet:
        """The gateways and all services."""
        return ProcessSet(self._modules)

    def authorization(self, user: UUID) -> dict[str, str]:
        """Request headers of a user."""
        return {"Authorization": f"Bearer {development_token(self._secret, user)}"}

    def get(self, video: StoredVideo, start: int = 0, length: int | None = None) -> Request:
        """A GET of the streaming route."""
        return get_request("bench", f"/videos/{video.video_id}/stream", video, start, length)

    def upload(self, source: Path) -> tuple[Load, StoredVideo]:
        """A multipart form."""
        done = send_form(self.address, source)
        answer = json.loads(done.body)
        key = "videos/" + answer["url"].rpartition("/")[2]
        return done, StoredVideo(answer["id"], key, source.stat().st_size)
