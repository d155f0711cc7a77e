"""Fetching inputs from a server that misbehaves."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import quote

import pytest

from services.ffmpeg.addresses import AddressPolicy
from services.ffmpeg.download import DownloadFailed, DownloadInterrupted, DownloadRefused, Fetcher
from services.ffmpeg.job import JobFault
from services.ffmpeg.plan import PlannedInput
from services.ffmpeg.worker.inputs import Inputs, StreamedVideos
from tests.integration.ffmpeg_download.rig import BODY, LIMITS, Answers, Server
from tests.support.waiting import until


async def test_a_file_arrives_whole_and_plainly_asked_for(server: Server, fetcher: Fetcher, tmp_path: Path) -> None:
    assert await fetcher.fetch(f"http://127.0.0.1:{server.port}/file?a=b", tmp_path / "in") == len(BODY)
    assert (tmp_path / "in").read_bytes() == BODY
    assert (tmp_path / "in").stat().st_mode & 0o777 == 0o600
    assert server.asked == ["/file?a=b"]
    assert server.headers[0]["Accept-Encoding"] == "identity"
    assert "Cookie" not in server.headers[0]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(server: Server, fetcher: Fetcher, tmp_path: Path, code: int) -> None:
    url = f"http://127.0.0.1:{server.port}/redirect?code={code}&to=/file"
    assert await fetcher.fetch(url, tmp_path / "in") == len(BODY)


@pytest.mark.parametrize("is_redirected", [False, True])
async def test_an_address_is_asked_for_as_it_is_given(
    server: Server, fetcher: Fetcher, tmp_path: Path, is_redirected: bool
) -> None:
    """Who signed it signed these very letters; two of them no URL has."""
    given = "/file%20%281%29.mp4?Policy=x%2Fy%3A&Signature='z'%27+~&name=é|"
    first = f"/redirect?to={quote(given, safe='')}" if is_redirected else given
    await fetcher.fetch(f"http://127.0.0.1:{server.port}{first}#page", tmp_path / "file")
    assert server.asked[-1] == given.replace("é|", "%C3%A9%7C")


async def test_five_hops_and_no_more(server: Server, fetcher: Fetcher, tmp_path: Path) -> None:
    assert await fetcher.fetch(f"http://127.0.0.1:{server.port}/chain?n=5", tmp_path / "in") == len(BODY)
    with pytest.raises(DownloadRefused, match="more than 5 times"):
        await fetcher.fetch(f"http://127.0.0.1:{server.port}/chain?n=6", tmp_path / "two")


@pytest.mark.parametrize(
    ("path", "error", "why"),
    [
        ("/empty", DownloadRefused, "empty"),
        ("/long", DownloadRefused, "larger"),
        ("/endless", DownloadRefused, "larger"),
        ("/gzip", DownloadRefused, "compressed"),
        ("/slow", DownloadInterrupted, "too slowly"),
        ("/stalled", DownloadInterrupted, "too long"),
        ("/cut", DownloadInterrupted, "failed"),
        ("/status?code=404", DownloadRefused, "404"),
        ("/status?code=403", DownloadRefused, "403"),
        ("/status?code=206", DownloadRefused, "206"),
        ("/status?code=500", DownloadInterrupted, "500"),
        ("/status?code=503", DownloadInterrupted, "503"),
        ("/status?code=429", DownloadInterrupted, "429"),
        ("/redirect?to=http://169.254.169.254/latest", DownloadRefused, "not a public one"),
        ("/redirect?to=http://[::1]/", DownloadRefused, "not a public one"),
        ("/redirect?to=http://0x7f000001/", DownloadRefused, "neither"),
        ("/redirect?to=file:///etc/passwd", DownloadRefused, "only http"),
        ("/redirect?to=//user@127.0.0.1/", DownloadRefused, "user name"),
        ("/redirect?to=", DownloadRefused, "more than 5 times"),
        ("/redirect?to=http://[", DownloadRefused, "no address"),
        ("/redirect?to=http://[::ffff:169.254.169.254]/", DownloadRefused, "not a public one"),
        ("/redirect?to=http://a..b/", DownloadRefused, "neither"),
        ("/redirect?to=data:,x", DownloadRefused, "only http"),
        # Python with the fix of CVE-2025-0938, as Debian's, does not even join it to the address that it came from.
        ("/redirect?to=http://[2606:4700::1111]x/", DownloadRefused, "not a plain URL|no address"),
    ],
)
async def test_what_goes_wrong_is_told_and_leaves_no_file(
    server: Server, fetcher: Fetcher, tmp_path: Path, *, path: str, error: type[DownloadFailed], why: str
) -> None:
    started = time.monotonic()
    with pytest.raises(error, match=why) as failed:
        await fetcher.fetch(f"http://127.0.0.1:{server.port}{path}", tmp_path / "in")
    assert time.monotonic() - started < 15
    assert "SECRET" not in str(failed.value)
    assert "127.0.0.1" not in str(failed.value)
    assert list(tmp_path.iterdir()) == []


async def test_what_comes_fast_enough_has_an_end_too(server: Server, tmp_path: Path) -> None:
    limits = replace(LIMITS, min_bytes_per_second=1, total_seconds=0.3)
    fetcher = Fetcher(AddressPolicy.parse([f"127.0.0.1:{server.port}"]), limits)
    with pytest.raises(DownloadInterrupted, match="took too long"):
        await fetcher.fetch(f"http://127.0.0.1:{server.port}/slow", tmp_path / "in")
    await fetcher.close()
    assert list(tmp_path.iterdir()) == []


async def test_what_says_that_it_is_too_large_is_not_begun(server: Server, fetcher: Fetcher, tmp_path: Path) -> None:
    spent: list[int] = []
    with pytest.raises(DownloadRefused, match="larger"):
        await fetcher.fetch(f"http://127.0.0.1:{server.port}/long", tmp_path / "in", spent.append)
    assert spent == []


async def test_a_disk_that_takes_a_part_of_what_is_written_is_given_the_rest(
    server: Server, fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that is about to be full: it says so at the next write."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:100_000]))
    await fetcher.fetch(f"http://127.0.0.1:{server.port}/file", tmp_path / "in")
    assert (tmp_path / "in").read_bytes() == BODY


class Redirect:
    """An answer of a server with a certificate, which a test has none for."""

    status = 302

    def __init__(self, target: str) -> None:
        self.headers = {"Location": target}

    async def __aenter__(self) -> Redirect:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("first", ["https://example.com/a", "HTTPS://example.com/a"])
@pytest.mark.parametrize("last", ["http://example.com/c", "ftp://example.com/c", "HTTP:c"])
async def test_what_began_encrypted_does_not_go_on_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, last: str
) -> None:
    """Whoever is on the way could give it any bytes then."""
    fetcher, asked = Fetcher(AddressPolicy(), LIMITS), list[str]()
    # The first one stays where it is.
    targets = ["//example.com/b", last]

    async def ask(url: str) -> Redirect:
        asked.append(url)
        return Redirect(targets[len(asked) - 1])

    monkeypatch.setattr(fetcher, "_ask", ask)
    with pytest.raises(DownloadRefused, match="from https to another scheme"):
        await fetcher.fetch(first, tmp_path / "in")
    assert asked == [first, "https://example.com/b"]


@pytest.mark.parametrize("link", [False, True])
async def test_a_file_that_is_there_already_is_not_written_into(
    server: Server, fetcher: Fetcher, tmp_path: Path, link: bool
) -> None:
    theirs, destination = tmp_path / "theirs", tmp_path / "in"
    theirs.write_bytes(b"theirs")
    (destination.symlink_to if link else destination.hardlink_to)(theirs)
    with pytest.raises(FileExistsError):
        await fetcher.fetch(f"http://127.0.0.1:{server.port}/file", destination)
    assert (theirs.read_bytes(), destination.read_bytes()) == (b"theirs", b"theirs")


async def test_a_server_that_is_not_there_may_come_back(server: Server, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        fetcher = Fetcher(AddressPolicy.parse([f"127.0.0.1:{port}"]), LIMITS)
        with pytest.raises(DownloadInterrupted):
            await fetcher.fetch(f"http://127.0.0.1:{port}/", tmp_path / "in")
        await fetcher.close()


async def test_cancelling_leaves_no_file(server: Server, fetcher: Fetcher, tmp_path: Path) -> None:
    task = asyncio.create_task(fetcher.fetch(f"http://127.0.0.1:{server.port}/stalled", tmp_path / "in"))
    await until((tmp_path / "in").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []


class Talker:
    """A server that sends one beginning and then the same piece again and again."""

    def __init__(self, begin: bytes, piece: bytes, pause: float) -> None:
        self._begin, self._piece, self._pause = begin, piece, pause
        self.hung_up = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._begin)
            while self._piece:
                writer.write(self._piece)
                await writer.drain()
                await asyncio.sleep(self._pause)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.hung_up.set()
            writer.close()


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("begin", "piece", "pause", "error"),
    [
        # Headers that never end: slowly, line by line, and as answers before the answer (RFC 9110, 15.2).
        (OK + b"X: ", b"x", 0.05, DownloadInterrupted),
        (OK, b"X-Y: z\r\n", 0.01, DownloadInterrupted),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01, DownloadInterrupted),
        (OK + b"X: " + b"x" * 10**6, b"", 0, DownloadInterrupted),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", b"x" * 65536, 0, DownloadFailed),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 10**6, b"", 0, DownloadInterrupted),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.05, DownloadInterrupted),
        (OK + b"Content-Length: -1\r\n\r\n", b"", 0, DownloadInterrupted),
        (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", b"x", 0.01, DownloadInterrupted),
        (OK + b"Content-Length: 99999999999999999999\r\n\r\n", b"x", 0.01, DownloadFailed),
        (b"SSH-2.0-OpenSSH\r\n", b"", 0, DownloadInterrupted),
        (b"", b"\0" * 65536, 0, DownloadInterrupted),
        (b"HTTP/1.1 302 Found\r\nLocation: /\xff\xfe\r\n\r\n", b"", 0, DownloadRefused),
        (b"HTTP/1.1 302 Found\r\nLocation: http://xn--a.example/\r\n\r\n", b"", 0, DownloadFailed),
    ],
)
async def test_a_server_that_never_comes_to_the_point_is_left_in_time(
    tmp_path: Path, begin: bytes, piece: bytes, pause: float, error: type[DownloadFailed]
) -> None:
    talker = Talker(begin, piece, pause)
    async with await asyncio.start_server(talker.answer, "127.0.0.1", 0) as serving:
        port = serving.sockets[0].getsockname()[1]
        limits = replace(LIMITS, connect_seconds=0.5, idle_seconds=0.5, total_seconds=30)
        fetcher = Fetcher(AddressPolicy.parse([f"127.0.0.1:{port}"]), limits, Answers(("203.0.113.1",)))
        started = time.monotonic()
        with pytest.raises(error):
            await fetcher.fetch(f"http://127.0.0.1:{port}/", tmp_path / "in")
        assert time.monotonic() - started < 15
        await asyncio.wait_for(talker.hung_up.wait(), 30)
        await fetcher.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "told"), [(404, ("INPUT_REFUSED", False)), (503, ("INPUT_UNAVAILABLE", True))])
async def test_an_input_is_tried_again_where_that_may_help(
    server: Server, fetcher: Fetcher, tmp_path: Path, status: int, told: tuple[str, bool]
) -> None:
    planned = PlannedInput("in_1", f"http://127.0.0.1:{server.port}/status?code={status}", "in")
    videos = StreamedVideos(Mock())
    with pytest.raises(JobFault) as failed:
        await Inputs(fetcher, videos, 100).bring("anna", (planned,), tmp_path)
    assert (failed.value.failure.reason, failed.value.may_pass) == told
    assert failed.value.failure.message == f"in_1: the input's server answered {status}"


async def test_what_a_job_may_bring_in_is_counted_over_all_its_inputs(
    server: Server, fetcher: Fetcher, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    url = f"http://127.0.0.1:{server.port}/file"
    planned = tuple(PlannedInput(f"in_{n}", url, f"in/{n}") for n in range(3))

    def inputs(max_bytes: int) -> Inputs:
        return Inputs(fetcher, StreamedVideos(Mock()), max_bytes)

    await inputs(3 * len(BODY)).bring("anna", planned, tmp_path)
    assert {path.stat().st_size for path in (tmp_path / "in").iterdir()} == {len(BODY)}
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    with pytest.raises(JobFault, match="with it the inputs are larger") as refused:
        await inputs(3 * len(BODY) - 1).bring("anna", planned, tmp_path)
    assert refused.value.failure.message.startswith("in_")
    assert (refused.value.failure.reason, refused.value.may_pass) == ("INPUT_TOO_LARGE", False)


async def test_what_a_job_may_wait_for_is_counted_over_all_its_inputs(server: Server, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    # Each comes just fast enough, and no more than three at once.
    planned = tuple(PlannedInput(f"in_{n}", f"http://127.0.0.1:{server.port}/slow", f"in/{n}") for n in range(9))
    patient = replace(LIMITS, min_bytes_per_second=1, total_seconds=30)
    fetcher = Fetcher(AddressPolicy.parse([f"127.0.0.1:{server.port}"]), patient)
    inputs = Inputs(fetcher, StreamedVideos(Mock()), 10**6, max_seconds=0.5)
    with pytest.raises(JobFault, match="took more than") as refused:
        await inputs.bring("anna", planned, tmp_path)
    assert (refused.value.failure.reason, refused.value.may_pass) == ("LIMIT_EXCEEDED", False)
    assert list((tmp_path / "in").iterdir()) == []
    assert len(server.asked) <= 3
    await fetcher.close()
