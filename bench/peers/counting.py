"""nginx between a server and S3, which writes down each request: what a server asks of the store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.peers.nginx import Nginx, start_nginx
from bench.storage import BUCKET, Storage


class CountingProxy:
    """One that runs."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log

    def requests(self) -> int:
        """How many were made for objects so far; those for the bucket alone, which watch its health, not counted."""
        wanted = f"/{BUCKET}/"
        paths = (line.split(" ")[1].partition("?")[0] for line in self._log.read_text().splitlines())
        return sum(path.startswith(wanted) and path != wanted for path in paths)


@asynccontextmanager
async def counting_proxy(storage: Storage, folder: Path) -> AsyncIterator[CountingProxy]:
    """A proxy in front of the storage, with its files in `folder`."""
    log = folder / "requests.log"
    # The Host header goes through as it came: it is signed.
    process, port = await start_nginx(storage, folder, "$http_host", f"{log} each")
    try:
        yield CountingProxy(f"http://127.0.0.1:{port}", log)
    finally:
        await process.stop(Nginx.stop_seconds)
