"""nginx between a server and S3, which writes down each request: what a server asks of the store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.peers import answers
from bench.peers.nginx import START_SECONDS, STOP_SECONDS, find_nginx
from bench.storage import BUCKET, Storage
from deploy.local.ports import free_port
from deploy.local.process import Process, inherited

# The Host header goes through as it came: it is signed.
CONFIGURATION = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    log_format each "$request_method $request_uri";
    access_log {folder}/requests.log each;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream s3 {{ server {s3}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://s3;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
            proxy_request_buffering off;
        }}
    }}
}}
"""


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


def _configured(storage: Storage, folder: Path, port: int) -> list[str]:
    """The command that starts it."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, port=port, s3=storage.signer.host))
    return [find_nginx(), "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log")]


@asynccontextmanager
async def counting_proxy(storage: Storage, folder: Path) -> AsyncIterator[CountingProxy]:
    """A proxy in front of the storage, with its files in `folder`."""
    port = free_port()
    process = Process("counting nginx", _configured(storage, folder, port), inherited(), folder / "error.log")
    url = f"http://127.0.0.1:{port}"
    await process.start_answering(lambda: answers(url + "/"), START_SECONDS)
    try:
        yield CountingProxy(url, folder / "requests.log")
    finally:
        await process.stop(STOP_SECONDS)
