"""Starts the load client (`bench.load_client`) and gives what it measured."""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

JOB_SECONDS = 180.0
CLIENT = [sys.executable, "-m", "bench.load_client"]


class PeerError(Exception):
    """A peer that doesn't start or answers wrongly; its message is for the person at the terminal."""


@dataclass(frozen=True)
class Request:
    """One GET, ready to send."""

    head: str
    expected_bytes: int


@dataclass(frozen=True)
class Load:
    """What the client saw of one job."""

    bytes: int
    seconds: float
    client_cpu_seconds: float
    latency_ms: list[float] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    body: str = ""

    @property
    def mib_per_second(self) -> float:
        """Bytes of bodies over the time from the first request to the last byte."""
        return self.bytes / 2**20 / self.seconds


def percentile(values: Sequence[float], percent: int) -> float:
    """The given percentile (1–99) of at least one value."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def read(address: tuple[str, int], requests: Sequence[Request], viewers: int, *, hashing: bool = False) -> Load:
    """Let `viewers` connections work off the requests; with `hashing`, give each body's SHA-256 (untimed use)."""
    job = {"kind": "read", "viewers": viewers, "hashing": hashing, **_requests(address, requests)}
    return _run(job)


def send(address: tuple[str, int], head: str, file: Path, before: str = "", after: str = "") -> Load:
    """Send one request whose body is `before`, the file's bytes and `after`."""
    host, port = address
    return _run(
        {"kind": "send", "host": host, "port": port, "head": head, "file": str(file), "before": before, "after": after}
    )


def multipart(
    address: tuple[str, int], signer: dict[str, str], path: str, file: Path, *, part_bytes: int, parallel: int
) -> Load:
    """Upload the file to S3 itself, in parts, `parallel` of them at once."""
    host, port = address
    return _run(
        {
            "kind": "multipart",
            "host": host,
            "port": port,
            "signer": signer,
            "path": path,
            "file": str(file),
            "part_bytes": part_bytes,
            "parallel": parallel,
        }
    )


@contextmanager
def stalled(address: tuple[str, int], requests: Sequence[Request]) -> Iterator[None]:
    """Keep one connection for each request on which it was sent and nothing is ever read."""
    with subprocess.Popen(CLIENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(json.dumps({"kind": "stall", **_requests(address, requests)}) + "\n")
        client.stdin.flush()
        answer = json.loads(client.stdout.readline() or '{"error": "the load client died"}')
        if "error" in answer:
            raise PeerError(answer["error"])
        try:
            yield
        finally:
            client.communicate()  # the end of stdin lets it go


def _requests(address: tuple[str, int], requests: Sequence[Request]) -> dict[str, Any]:
    host, port = address
    return {"host": host, "port": port, "requests": [[r.head, r.expected_bytes] for r in requests]}


def _run(job: dict[str, Any]) -> Load:
    try:
        done = subprocess.run(
            CLIENT, input=json.dumps(job) + "\n", capture_output=True, text=True, timeout=JOB_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"a job took more than {JOB_SECONDS:.0f} s") from error
    try:
        result = json.loads(done.stdout)
    except ValueError as error:
        raise PeerError(f"the load client failed: {done.stderr.strip()[-500:]}") from error
    if "error" in result:
        raise PeerError(result["error"])
    return Load(**result)
