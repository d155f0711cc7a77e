"""nginx in front of S3."""

import os
import shutil
import subprocess
from pathlib import Path

from bench import load
from bench.load import Load, Request
from bench.peers import Server, answers
from bench.peers.s3 import presigned_get
from bench.storage import Storage, StoredVideo
from deploy.local.ports import free_port
from deploy.local.process import Process, StartError, inherited

START_SECONDS = 20.0
INSTALL_TOOLS = "deploy/local/install_tools.sh"

NGINX_CONFIGURATION = """\
daemon off;
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 2048; }}
http {{
    log_format each "$request_method $request_uri";
    access_log {access_log};
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream s3 {{ server {s3}; keepalive 64; keepalive_requests 1000000; }}
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://s3;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host {host};
            proxy_buffering off;
            proxy_buffer_size 256k;
            proxy_buffers 8 256k;
            proxy_request_buffering off;
        }}
    }}
}}
"""


class Nginx(Server):
    """nginx passes presigned requests to S3 and buffers nothing; an upload is one PUT."""

    name = "nginx"
    title = "nginx, unbuffered"
    caches = False

    async def start(self) -> None:
        """Start it with a configuration of our own in its folder."""
        self._process, self._port = await start_nginx(self.storage, self._folder, self.storage.signer.host)

    def get(self, video: StoredVideo, start: int = 0, length: int | None = None) -> Request:
        """A GET presigned for S3."""
        return presigned_get(self.storage, video, start, length)

    def upload(self, source: Path) -> tuple[Load, StoredVideo]:
        """One presigned PUT."""
        key = self.storage.new_key()
        size = source.stat().st_size
        target = self.storage.signer.presign("PUT", self.storage.path(key))
        head = f"PUT {target} HTTP/1.1\r\nHost: {self.storage.signer.host}\r\nContent-Length: {size}\r\n\r\n"
        return load.send(self.address, head, source), StoredVideo(Path(key).stem, key, size)


async def start_nginx(storage: Storage, folder: Path, host: str, access_log: str = "off") -> tuple[Process, int]:
    """One in front of the storage, with its files in `folder`, and its port.

    Args:
        storage: whose S3 it is for.
        folder: absolute.
        host: the Host header that S3 gets, which may have nginx's variables in it.
        access_log: value of that directive; the format `each` is a line `METHOD URI` a request.

    Raises:
        StartError: It is missing or does not answer.
    """
    port = free_port()
    process = Process("nginx", _command(storage, folder, port, host, access_log), inherited(), folder / "error.log")
    await process.start_answering(lambda: answers(f"http://127.0.0.1:{port}/"), START_SECONDS)
    return process, port


def _command(storage: Storage, folder: Path, port: int, host: str, access_log: str) -> list[str]:
    program = find_nginx()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "nginx.conf"
    s3 = storage.signer.host
    configuration.write_text(
        NGINX_CONFIGURATION.format(folder=folder, port=port, s3=s3, host=host, access_log=access_log)
    )
    return [program, "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log")]


def find_nginx() -> str:
    """Where nginx is; root on Debian gets it installed.

    Raises:
        StartError: It is missing and cannot be installed here.
    """
    # Debian has it where only root's PATH leads.
    places = "/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", os.defpath)
    done = subprocess.run(
        [INSTALL_TOOLS, "nginx:nginx-light"], env=inherited(PATH=places), stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise StartError(done.stderr.strip())
    return shutil.which("nginx", path=places) or "nginx"
