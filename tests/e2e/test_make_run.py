"""`make run` as the README tells it, with the real processes and a real video."""

import asyncio
import hashlib
import json
import re
import shlex
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from deploy.local.ports import free_port
from deploy.local.services import SERVICES
from services.ffmpeg.binaries import find
from tests.support.terminal import Terminal, run_in_terminal
from tests.support.waiting import is_alive


def make_run(data_dir: Path, port: int) -> AbstractAsyncContextManager[Terminal]:
    # The environment is the tests' own business: make must not set one up, whatever is newer.
    command = ("make", "--no-print-directory", "-o", ".venv/.dev", "-o", ".venv/.local", "run", f"PORT={port}")
    return run_in_terminal(command, {"DATA_DIR": str(data_dir)})


async def output_of(*command: str, cwd: Path) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out


@pytest.fixture(scope="module")
async def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a test picture and a tone, as clip.mp4."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    sources = "-f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=frequency=440"
    encoding = "-t 2 -c:v libx264 -pix_fmt yuv420p -c:a aac -movflags +faststart"
    await output_of(find().ffmpeg, *sources.split(), *encoding.split(), str(path), cwd=path.parent)
    return path


async def commands_of(terminal: Terminal) -> list[str]:
    """The three commands to try that it prints."""
    await terminal.says(r"ready: ", seconds=60)
    await terminal.says(r"/download")
    return [found[1] for line in terminal.lines if (found := re.search(r"\|\s+(curl .*)", line))]


async def test_the_commands_that_it_prints_work_and_the_video_is_there_after_a_restart(
    tmp_path: Path, clip: Path
) -> None:
    data_dir, port = tmp_path / "data", free_port()
    async with make_run(data_dir, port) as terminal:
        upload, stream, download = await commands_of(terminal)
        children = terminal.children()
        # make, then: the supervisor, its two servers, and every process of the table.
        assert len(children) >= 1 + 2 + len(SERVICES)
        video = json.loads(await output_of(*shlex.split(upload), cwd=clip.parent))
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/reelway/videos/[0-9a-f-]{36}\.mp4", video["url"])
        head = await output_of(*shlex.split(stream.replace("ID", video["id"])), cwd=tmp_path)
        assert b" 206 " in head.splitlines()[0]
        assert (tmp_path / "first.bin").read_bytes() == clip.read_bytes()[:1024]
        terminal.interrupt()
        assert await terminal.ends() in (0, -2, 2, 130)  # make's own word for an interrupt; ours is 0
        assert not [pid for pid in children if is_alive(pid)]
        assert "stopped" in terminal.lines[-1] or "stopped" in terminal.lines[-2]
    async with make_run(data_dir, port) as terminal:
        await commands_of(terminal)
        await output_of(*shlex.split(download.replace("ID", video["id"])), cwd=tmp_path)
        (downloaded,) = tmp_path.glob(f"*{video['id']}*")
        assert hashlib.sha256(downloaded.read_bytes()).digest() == hashlib.sha256(clip.read_bytes()).digest()
        terminal.interrupt()
        await terminal.ends()
