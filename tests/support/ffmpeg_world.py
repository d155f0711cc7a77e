"""A small world around the sandbox: inputs, secrets that must not be read, folders that must not be written, listeners
that must not be reached. What happens is seen by the kernel's own eyes (inotify) and by the listeners.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.programs import installed


def _read_attacks(*names: str) -> dict[str, Any]:
    """The cases and fixtures of all files together."""
    found = [json.loads((Path(__file__).parent.parent / "data" / name).read_text("utf-8")) for name in names]
    fixtures = {name: made for one in found for name, made in one["meta"]["fixtures"].items()}
    return {"meta": {"fixtures": fixtures}, "cases": [case for one in found for case in one["cases"]]}


ATTACKS = _read_attacks("ffmpeg_attacks.json", "ffmpeg_attacks_more.json")
CANARY = "CANARY-5e1f0d"
ENVIRONMENT_SECRET = "CANARY-ENV-SECRET"
_IN_OPEN, _IN_ACCESS, _IN_CREATE, _IN_MODIFY, _IN_NONBLOCK = 0x20, 0x1, 0x100, 0x2, 0x800
_LAVFI = ("-f", "lavfi", "-i")


def _ffmpeg(folder: Path, *arguments: str) -> None:
    command = [installed(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments]
    subprocess.run(command, cwd=folder, check=True, timeout=60)


def png(width: int, height: int) -> bytes:
    """A grey picture of zeros; small as a file, huge as pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    row = bytes(width + 1)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def make_media(folder: Path) -> None:
    """The fixtures that the cases name, from their own recipes."""
    test = (*_LAVFI, "testsrc=s=320x240:r=25:d=3", *_LAVFI, "sine=d=3")
    _ffmpeg(folder, *test, "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "video.mp4")
    _ffmpeg(folder, *_LAVFI, "color=black:s=160x120:r=5:d=2", "-c:v", "libx264", "black.mp4")
    _ffmpeg(folder, *_LAVFI, "sine=d=3", "-c:a", "aac", "audio.m4a")
    _ffmpeg(folder, *_LAVFI, "testsrc=s=64x64:d=1", "-frames:v", "1", "logo.png")
    (folder / "payload.txt").write_text(ATTACKS["meta"]["fixtures"]["payload.txt"]["text"])
    attach = ("-i", "video.mp4", "-c", "copy", "-attach", "payload.txt", "-metadata:s:t", "mimetype=text/plain")
    _ffmpeg(folder, *attach, "attach.mkv")
    (folder / "bomb.png").write_bytes(png(30000, 30000))
    (folder / "bomb16k.png").write_bytes(png(16000, 16000))
    (folder / "bomb.gif").write_bytes(b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "fat.srt").write_text(f"1\n00:00:00,000 --> 00:00:02,000\n{'<b>x ' * 50_000}\n\n")
    title = f"title=Duration: {'9' * 400}:00:00.00, Output"
    _ffmpeg(folder, "-i", "video.mp4", "-c", "copy", "-metadata", title, "long_title.mkv")
    # Nothing here loads code: only the policy stands against that, and it is asked without the file.
    (folder / "evil.so").write_bytes(b"\x7fELF")


class Eyes:
    """Sees every open of a secret and every creation in a folder, by whatever process."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(_IN_NONBLOCK)
        assert self._descriptor >= 0
        self._watched: dict[int, str] = {}
        self.seen: dict[str, list[str]] = {}

    def watch(self, folder: Path, name: str, *, for_reading: bool) -> None:
        """Report what happens to files of `folder` under `name`."""
        mask = (_IN_OPEN | _IN_ACCESS) if for_reading else (_IN_CREATE | _IN_MODIFY)
        number = self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), mask)
        assert number > 0
        self._watched[number] = name

    def look(self) -> None:
        """Take in what happened."""
        while True:
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                number, _, _, length = struct.unpack_from("iIII", data, at)
                file = data[at + 16 : at + 16 + length].rstrip(b"\0").decode()
                self.seen.setdefault(self._watched[number], []).append(file)
                at += 16 + length

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass
class World:
    """One run's surroundings; each case gets its own secrets and its own outside."""

    root: Path
    media: Path
    fixture_url: str = ""
    fixture_port: int = 0
    canary_port: int = 0
    udp_port: int = 0
    unix_path: str = ""
    reached: list[str] = field(default_factory=list)
    """What the canary listeners saw: each line or datagram's beginning."""
    service_pid: int = 0
    eyes: Eyes = field(default_factory=Eyes)
    serve_as: dict[str, str] = field(default_factory=dict)

    def place(self, case: str) -> tuple[Path, Path]:
        """A case's secret folder and outside folder, watched."""
        secret, outside = self.root / case / "secret", self.root / case / "outside"
        for folder in (secret, outside):
            folder.mkdir(parents=True)
        (secret / "canary.txt").write_text(f"{CANARY}\nsecond line\n")
        (secret / "canary.srt").write_text(f"1\n00:00:00,000 --> 00:00:02,000\n{CANARY}\n\n")
        (secret / "key.bin").write_bytes(b"0123456789abcdef")
        for name in ("canary.ts", "canary.mp4", "c1.png", "c2.png", "c3.png"):
            (secret / name).hardlink_to(self.root / "secret" / name)
        for folder in (secret, outside):
            folder.chmod(0o777)
        self.eyes.watch(secret, f"{case}:secret", for_reading=True)
        self.eyes.watch(outside, f"{case}:outside", for_reading=False)
        return secret, outside

    def tokens(self, case: str) -> dict[str, str]:
        """What stands for the cases' {{TOKENS}}."""
        base = self.root / case
        return {
            "SECRET_TXT": f"{base}/secret/canary.txt",
            "SECRET_DIR": f"{base}/secret",
            "SECRET_MEDIA": f"{base}/secret/canary.ts",
            "OUTSIDE_DIR": f"{base}/outside",
            "CANARY_HTTP": f"http://127.0.0.1:{self.canary_port}",
            "CANARY_UDP_PORT": str(self.udp_port),
            "CANARY_UNIX": self.unix_path,
            "SERVICE_PID": str(self.service_pid),
            "JOB_DIR_REL": str(base / "job").lstrip("/"),
            "FIXTURE": f"{self.fixture_url}/{case}",
            "CANARY_PORT": str(self.canary_port),
            "CANARY_HOSTPORT": f"127.0.0.1:{self.canary_port}",
        }

    def fill(self, text: str, case: str) -> str:
        """`text` with its tokens filled in."""
        tokens = self.tokens(case)
        return re.sub(r"\{\{([A-Z_]+)\}\}", lambda match: tokens[match[1]], text)

    def fixture(self, case: str, name: str) -> bytes | None:
        """The bytes of a fixture as a case sees them."""
        name = self.serve_as.get(f"{case}/{name}", name)
        made = ATTACKS["meta"]["fixtures"].get(name, {})
        if "text" in made:
            return self.fill(made["text"], case).encode()
        if name == "attach_abs.mkv":
            return self._attachment(case)
        path = self.media / name
        return path.read_bytes() if path.is_file() else None

    def _attachment(self, case: str) -> bytes:
        target = self.root / case / "attach_abs.mkv"
        if not target.exists():
            name = f"filename={self.root / case}/outside/cron2"
            source = str(self.media / "attach.mkv")
            _ffmpeg(self.root / case, "-i", source, "-map", "0", "-c", "copy", "-metadata:s:t", name, str(target))
        return target.read_bytes()


async def _serve(world: World) -> web.AppRunner:
    async def fixture(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name == "redirect":
            raise web.HTTPFound(request.query["to"])
        if name == "redirect-loop":
            raise web.HTTPFound(request.path)
        if name in ("big", "slow", "gzip-bomb"):
            return await _endless(request, name)
        data = await asyncio.to_thread(world.fixture, request.match_info["case"], name)
        if data is None:
            raise web.HTTPNotFound
        return web.Response(body=data)

    app = web.Application()
    app.router.add_get("/{case}/{name}", fixture)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    world.fixture_port = runner.addresses[0][1]
    world.fixture_url = f"http://127.0.0.1:{world.fixture_port}"
    return runner


async def _endless(request: web.Request, kind: str) -> web.StreamResponse:
    response = web.StreamResponse()
    if kind == "gzip-bomb":
        response.headers["Content-Encoding"] = "gzip"
    await response.prepare(request)
    try:
        for _ in range(2000):
            await response.write(b"x" if kind == "slow" else bytes(65536))
            if kind == "slow":
                await asyncio.sleep(0.2)
    except (ConnectionError, asyncio.CancelledError):
        pass
    return response


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, reached: list[str]) -> None:
        self._reached = reached

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._reached.append(f"udp {data[:80]!r}")


@contextmanager
def _service(world: World) -> Iterator[None]:
    """A process of our user with a secret in its environment."""
    process = subprocess.Popen(["/bin/sleep", "600"], env={"SECRET": ENVIRONMENT_SECRET})
    world.service_pid = process.pid
    try:
        yield
    finally:
        process.kill()
        process.wait()


class RunningWorld:
    """Async context: makes the media, starts the listeners, ends them."""

    def __init__(self, root: Path) -> None:
        self.world = World(root, root / "media")

    async def __aenter__(self) -> World:
        world = self.world
        world.media.mkdir(parents=True)
        secret = world.root / "secret"
        secret.mkdir()
        await asyncio.to_thread(make_media, world.media)
        await asyncio.to_thread(_make_secret, secret)

        async def canary(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            world.reached.append("tcp")
            writer.close()

        self._tcp = await asyncio.start_server(canary, "127.0.0.1", 0)
        world.canary_port = self._tcp.sockets[0].getsockname()[1]
        world.unix_path = str(world.root / "unix")
        self._unix = await asyncio.start_unix_server(canary, world.unix_path)
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(world.reached), local_addr=("127.0.0.1", 0)
        )
        world.udp_port = self._udp.get_extra_info("sockname")[1]
        self._runner = await _serve(world)
        self._process = _service(world)
        self._process.__enter__()
        return world

    async def __aexit__(self, *_: object) -> None:
        self._process.__exit__(None, None, None)
        await self._runner.cleanup()
        self._udp.close()
        self._tcp.close()
        self._unix.close()
        self.world.eyes.close()
        shutil.rmtree(self.world.root, ignore_errors=True)


def _make_secret(folder: Path) -> None:
    _ffmpeg(folder, *_LAVFI, "color=magenta:s=160x120:r=5:d=2", "-c:v", "libx264", "canary.ts")
    _ffmpeg(folder, "-i", "canary.ts", "-c", "copy", "canary.mp4")
    for number in (1, 2, 3):
        _ffmpeg(folder, *_LAVFI, "color=magenta:s=64x64", "-frames:v", "1", f"c{number}.png")


def case_by_id(case: str) -> Mapping[str, Any]:
    """One case of the file."""
    found: Mapping[str, Any] = next(entry for entry in ATTACKS["cases"] if entry["id"] == case)
    return found
