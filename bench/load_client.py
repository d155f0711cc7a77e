"""The load: one process that sends requests over plain sockets, reads answers and throws the bytes away.

Run as `python -m bench.load_client` with one job (see `bench.load`) as a line of JSON on stdin; the result is
a line of JSON on stdout. Only the standard library and no event loop framework, because whatever the client
costs is taken from the servers on the same cores: about 0.1 CPU seconds for each GiB received.
"""

import collections
import hashlib
import json
import os
import queue
import select
import socket
import sys
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECEIVE_BYTES = 256 * 1024  # fits the second-level cache; larger is slower
HEAD_LIMIT_BYTES = 16 * 1024
DEADLINE_SECONDS = 120.0


class LoadError(Exception):
    """An answer that is not the one asked for: the measurement is void."""


@dataclass
class Answer:
    """The head of one HTTP answer."""

    status: int
    headers: dict[str, str]

    @property
    def length(self) -> int:
        """Bytes of the body; every peer states it."""
        try:
            return int(self.headers["content-length"])
        except KeyError as error:
            raise LoadError(f"no Content-Length in an answer of status {self.status}") from error


def parse_head(head: bytes) -> Answer:
    """Parse a status line and header lines, without the empty line behind them."""
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(status_line.split(" ", 2)[1]), headers)


class Viewer:
    """One connection that works off requests from a common queue, one after the other."""

    def __init__(self, address: tuple[str, int], hashing: bool) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._hashing = hashing
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._head = bytearray()
        self._digest: Any = None
        self._in_head = True
        self._remaining = 0
        self._expected = 0
        self._started = 0.0
        self.latency_ms: list[float] = []
        self.digests: dict[int, str] = {}
        self._index = 0

    def start(self, index: int, request: bytes, expected_bytes: int) -> None:
        """Send the next request, whose answer must have `expected_bytes` bytes."""
        self._index, self._expected = index, expected_bytes
        self._head.clear()
        self._digest = hashlib.sha256() if self._hashing else None
        self._in_head = True
        self._started = time.perf_counter()
        if self.socket.send(request) != len(request):
            raise LoadError("a request head did not fit the socket's buffer")

    def readable(self) -> bool:
        """Take what has arrived; True when the answer is complete."""
        if self._in_head:
            return self._read_head()
        count = self.socket.recv_into(self._buffer, min(self._remaining, RECEIVE_BYTES))
        if not count:
            raise LoadError(f"the connection closed {self._remaining} bytes before the end")
        if self._digest is not None:
            self._digest.update(self._buffer[:count])
        self._remaining -= count
        return self._remaining == 0 and self._complete()

    def _read_head(self) -> bool:
        data = self.socket.recv(HEAD_LIMIT_BYTES)
        if not data:
            raise LoadError("the connection closed before an answer")
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > HEAD_LIMIT_BYTES:
                raise LoadError("an answer without an end to its head")
            return False
        answer = parse_head(bytes(self._head[:end]))
        if answer.status not in {200, 206} or answer.length != self._expected:
            got = bytes(self._head[end + 4 : end + 300])
            raise LoadError(f"status {answer.status}, {answer.length} bytes, not {self._expected}: {got!r}")
        body = self._head[end + 4 :]
        if self._digest is not None:
            self._digest.update(body)
        self._in_head = False
        self._remaining = self._expected - len(body)
        return self._remaining == 0 and self._complete()

    def _complete(self) -> bool:
        self.latency_ms.append((time.perf_counter() - self._started) * 1000)
        if self._digest is not None:
            self.digests[self._index] = self._digest.hexdigest()
        return True


def read(job: dict[str, Any]) -> dict[str, Any]:
    """Let `viewers` connections work off `requests` ([head, expected bytes] each)."""
    queue = collections.deque(enumerate((head.encode(), size) for head, size in job["requests"]))
    total = sum(size for _, size in job["requests"])
    viewers = [Viewer((job["host"], job["port"]), job["hashing"]) for _ in range(job["viewers"])]
    by_fd = {viewer.socket.fileno(): viewer for viewer in viewers}
    poll = select.epoll()
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    cpu, started = time.process_time(), time.perf_counter()
    busy = 0
    for viewer in viewers:
        if queue:
            index, (head, size) = queue.popleft()
            viewer.start(index, head, size)
            busy += 1
    while busy:
        events = poll.poll(10)
        if not events or time.perf_counter() - started > DEADLINE_SECONDS:
            raise LoadError("no answer for 10 s, or the whole job took more than two minutes")
        for fd, _ in events:
            viewer = by_fd[fd]
            if not viewer.readable():
                continue
            if queue:
                index, (head, size) = queue.popleft()
                viewer.start(index, head, size)
            else:
                busy -= 1
    seconds = time.perf_counter() - started
    digests: dict[int, str] = {}
    for viewer in viewers:
        digests |= viewer.digests
    return {
        "bytes": total,
        "seconds": seconds,
        "client_cpu_seconds": time.process_time() - cpu,
        "latency_ms": [value for viewer in viewers for value in viewer.latency_ms],
        "digests": [digests[index] for index in sorted(digests)],
    }


class Sender:
    """A blocking connection that sends bodies from a file with sendfile and reads short answers."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=DEADLINE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(
        self,
        head: str,
        source: int = -1,
        span: tuple[int, int] = (0, 0),
        *,
        before: bytes = b"",
        after: bytes = b"",
    ) -> tuple[Answer, bytes]:
        """Send a head, `before`, a span (first byte, bytes) of the file `source`, and `after`; give the answer."""
        self.socket.sendall(head.encode() + before)
        offset, end = span[0], sum(span)
        while offset < end:
            # A time-out makes the socket non-blocking underneath, so wait for room as sendall would.
            try:
                offset += os.sendfile(self.socket.fileno(), source, offset, end - offset)
            except BlockingIOError:
                if not select.select([], [self.socket], [], DEADLINE_SECONDS)[1]:
                    raise LoadError("the server stopped taking bytes") from None
        if after:
            self.socket.sendall(after)
        received = bytearray()
        while (end_of_head := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        answer = parse_head(bytes(received[:end_of_head]))
        body = received[end_of_head + 4 :]
        if answer.headers.get("transfer-encoding", "") == "chunked":
            body = self._chunked(body)
        else:
            while len(body) < answer.length:
                body += self._receive()
        if not 200 <= answer.status < 300:
            raise LoadError(f"status {answer.status}: {bytes(body[:300])!r}")
        return answer, bytes(body)

    def _chunked(self, body: bytearray) -> bytearray:
        while not body.endswith(b"0\r\n\r\n"):
            body += self._receive()
        whole = bytearray()
        while body:
            size_line, _, rest = bytes(body).partition(b"\r\n")
            size = int(size_line, 16)
            whole += rest[:size]
            body = bytearray(rest[size + 2 :])
        return whole

    def _receive(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise LoadError("the connection closed before the answer was complete")
        return data


def send(job: dict[str, Any]) -> dict[str, Any]:
    """Send one request whose body is `before`, the file and `after`."""
    source = os.open(job["file"], os.O_RDONLY)
    size = os.fstat(source).st_size
    sender = Sender((job["host"], job["port"]))
    cpu, started = time.process_time(), time.perf_counter()
    before, after = job["before"].encode(), job["after"].encode()
    _, body = sender.exchange(job["head"], source, (0, size), before=before, after=after)
    return {
        "bytes": size,
        "seconds": time.perf_counter() - started,
        "client_cpu_seconds": time.process_time() - cpu,
        "body": body.decode("utf-8", "replace"),
    }


def multipart(job: dict[str, Any]) -> dict[str, Any]:
    """Upload the file to S3 itself as a multipart upload, several parts at once, each signed by hand."""
    from bench.signing import Signer  # noqa: PLC0415 - botocore is slow to import and only this job needs it

    signer = Signer(**job["signer"])
    path, part_bytes = job["path"], job["part_bytes"]
    size = Path(job["file"]).stat().st_size
    source = os.open(job["file"], os.O_RDONLY)
    address = (job["host"], job["port"])
    senders = queue.SimpleQueue[Sender]()
    for _ in range(job["parallel"]):
        senders.put(Sender(address))

    def call(
        method: str, query: dict[str, str], span: tuple[int, int] = (0, 0), document: bytes = b""
    ) -> tuple[Answer, bytes]:
        target, length = signer.presign(method, path, query), span[1] + len(document)
        head = f"{method} {target} HTTP/1.1\r\nHost: {signer.host}\r\nContent-Length: {length}\r\n\r\n"
        sender = senders.get()
        try:
            return sender.exchange(head, source, span, before=document)
        finally:
            senders.put(sender)

    signer.presign("PUT", path, {})  # the first signature imports and derives keys
    cpu, started = time.process_time(), time.perf_counter()
    _, body = call("POST", {"uploads": ""})
    upload_id = ET.fromstring(body).findtext("{*}UploadId") or ""

    def put(part: tuple[int, int]) -> str:
        number, offset = part
        query = {"partNumber": str(number), "uploadId": upload_id}
        answer, _ = call("PUT", query, (offset, min(part_bytes, size - offset)))
        return f"<Part><PartNumber>{number}</PartNumber><ETag>{answer.headers['etag']}</ETag></Part>"

    with ThreadPoolExecutor(job["parallel"]) as pool:
        parts = "".join(pool.map(put, enumerate(range(0, size, part_bytes), start=1)))
    document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    _, body = call("POST", {"uploadId": upload_id}, document=document)
    if ET.fromstring(body).tag.endswith("Error"):
        raise LoadError(f"the multipart upload did not complete: {body[:300]!r}")
    return {
        "bytes": size,
        "seconds": time.perf_counter() - started,
        "client_cpu_seconds": time.process_time() - cpu,
    }


def stall(job: dict[str, Any]) -> dict[str, Any]:
    """Send a request on each of many connections and read nothing until stdin ends."""
    connections = []
    for head, _ in job["requests"]:
        connection = socket.create_connection((job["host"], job["port"]), timeout=10)
        connection.sendall(head.encode())
        connections.append(connection)
    print("{}", flush=True)
    sys.stdin.readline()
    return {}


JOBS = {"read": read, "send": send, "multipart": multipart, "stall": stall}


def main() -> int:
    """Run the job that stands on stdin."""
    job = json.loads(sys.stdin.readline())
    try:
        result = JOBS[job["kind"]](job)
    except (LoadError, OSError, ValueError) as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
