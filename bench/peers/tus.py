"""`@tus/server` with its S3 store, and the client that drives it and us alike."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import PeerError
from bench.processes import ProcessSet
from deploy.local.process import inherited

FOLDER = Path(__file__).parent.parent / "tus"
CLIENT_SECONDS = 600.0


@dataclass(frozen=True)
class TusServer:
    """One that runs."""

    url: str
    processes: ProcessSet


def install() -> None:
    """What package-lock.json names, from npm, unless it is there; PeerError where npm is not."""
    if not (FOLDER / "node_modules" / "@tus" / "server").exists():
        if not shutil.which("npm"):
            raise PeerError("npm is missing; install it (Debian: apt-get install npm), or leave appends out with ONLY")
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=FOLDER, check=True, timeout=300)


@contextmanager
def tus_server(storage: Mapping[str, str]) -> Iterator[TusServer]:
    """A server on the same S3."""
    install()
    env = inherited(**storage)
    command = ["node", "server.mjs"]
    with subprocess.Popen(command, cwd=FOLDER, env=env, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            if not port.isdigit():
                raise PeerError("tus does not start")
            yield TusServer(f"http://127.0.0.1:{port}/files", ProcessSet({"tus": [server.pid]}))
        finally:
            server.terminate()


def upload_in_chunks(kind: str, url: str, source: Path, chunk: int, total: int) -> float:
    """Upload the beginning of a file, `kind` being `tus` or `append`; seconds. PeerError where it fails."""
    install()
    command = ["node", "client.mjs", kind, url, str(source), str(chunk), str(total)]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=CLIENT_SECONDS, check=False)
    if done.returncode:
        raise PeerError(f"{kind}: {done.stderr.strip()[-500:]}")
    return float(done.stdout)
