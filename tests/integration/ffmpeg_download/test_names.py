"""An input's server is looked up once, and only what is public, or listed, is dialled."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.ffmpeg.addresses import AddressPolicy
from services.ffmpeg.download import DownloadFailed, DownloadInterrupted, Fetcher
from tests.integration.ffmpeg_download.rig import BODY, LIMITS, Answers, Server


@pytest.mark.parametrize(
    "answer",
    [
        ("127.0.0.1",),
        ("10.0.0.1",),
        ("1.1.1.1", "127.0.0.1"),
        ("169.254.169.254",),
        ("::1",),
        ("::ffff:127.0.0.1",),
        ("::ffff:a9fe:a9fe",),
        ("64:ff9b::7f00:1",),
        ("64:ff9b:1::a00:1",),
        ("2002:7f00:1::",),
        ("2001:0:7f00:1::",),
        ("fd00:ec2::254",),
        ("fe80::1%lo",),
        ("2606:4700::1111", "fc00::1"),
    ],
)
async def test_one_bad_answer_poisons_all(server: Server, tmp_path: Path, answer: tuple[str, ...]) -> None:
    fetcher = Fetcher(AddressPolicy(), LIMITS, Answers(answer))
    # As a name that does not exist: which ones do inside is nobody's business.
    with (
        capture_logs() as lines,
        pytest.raises(DownloadInterrupted, match=r"^the connection to the input's server failed$"),
    ):
        await fetcher.fetch("http://some.test/", tmp_path / "in")
    await fetcher.close()
    assert server.asked == []
    [line] = lines
    assert (line["host"], line["why"]) == ("some.test", "the address is not a public one")


async def test_a_name_is_looked_up_once_a_hop(server: Server, tmp_path: Path) -> None:
    """Rebinding: what was vetted is what is dialled; there is no second question to answer differently."""
    answers = Answers(("127.0.0.1",), ("127.0.0.2",))
    fetcher = Fetcher(AddressPolicy.parse([f"127.0.0.1:{server.port}"]), LIMITS, answers)
    assert await fetcher.fetch(f"http://some.test:{server.port}/file", tmp_path / "in") == len(BODY)
    assert answers.asked == 1
    with pytest.raises(DownloadInterrupted):
        await fetcher.fetch(f"http://some.test:{server.port}/file", tmp_path / "two")
    await fetcher.close()
    assert len(server.asked) == 1


async def test_a_cookie_of_one_owner_s_input_does_not_go_with_another_s(server: Server, tmp_path: Path) -> None:
    # By name: a client that keeps cookies keeps none of a server that has an address alone.
    answers = Answers(("127.0.0.1",), ("127.0.0.1",))
    fetcher = Fetcher(AddressPolicy.parse([f"127.0.0.1:{server.port}"]), LIMITS, answers)
    for name in ("anna", "boris"):
        await fetcher.fetch(f"http://some.test:{server.port}/file", tmp_path / name)
    await fetcher.close()
    assert ["Cookie" in headers for headers in server.headers] == [False, False]


async def test_names_that_are_never_found_hold_up_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait() and [])
    fetcher = Fetcher(AddressPolicy(), LIMITS)
    fetches = [
        asyncio.create_task(fetcher.fetch(f"http://{n}.example/", tmp_path / f"{n}"))
        for n in range(2 * (os.cpu_count() or 1) + 32)
    ]
    try:
        done, _ = await asyncio.wait(fetches, timeout=0.1)
        assert not done
        async with asyncio.timeout(30):
            await asyncio.to_thread(BODY.__len__)
    finally:
        answered.set()
        await asyncio.gather(*fetches, return_exceptions=True)
        await fetcher.close()


async def test_a_listed_pair_is_taken_out_of_several_answers(server: Server, tmp_path: Path) -> None:
    answers = Answers(("127.0.0.9", "127.0.0.1"))
    fetcher = Fetcher(AddressPolicy.parse([f"127.0.0.1:{server.port}"]), LIMITS, answers)
    assert await fetcher.fetch(f"http://localhost:{server.port}/file", tmp_path / "in") == len(BODY)
    await fetcher.close()


async def test_a_proxy_in_the_environment_is_not_asked(
    server: Server, fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert await fetcher.fetch(f"http://127.0.0.1:{server.port}/file", tmp_path / "in") == len(BODY)


async def test_every_socket_passes_the_guard(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the text and the resolver were fooled, the address that is dialled is vetted."""
    monkeypatch.setattr(AddressPolicy, "check_url", lambda self, url: None)
    fetcher = Fetcher(AddressPolicy(), LIMITS)
    for host in ("127.0.0.1", "0x7f000001", "[::ffff:127.0.0.1]", "localhost"):
        with pytest.raises(DownloadFailed):
            await fetcher.fetch(f"http://{host}:{server.port}/file", tmp_path / "in")
    await fetcher.close()
    assert server.asked == []
