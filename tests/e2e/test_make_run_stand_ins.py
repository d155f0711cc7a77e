"""What a person sees of `make run`: readiness, restarts, refusals, and the end of it all.

Small stand-ins for the processes keep this quick; test_make_run.py does the main path with the real ones.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import redis.asyncio

from deploy.local.ports import free_port
from tests.support.forked import Forked
from tests.support.programs import static
from tests.support.servers import S3Server
from tests.support.system import passed_on
from tests.support.terminal import ROOT, Terminal, run_in_terminal
from tests.support.waiting import is_alive, until

# The S3 address is among them: presigned URLs that were given out hold on.
KEPT = ("AUTH_JWT_SECRET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "S3_ENDPOINT_URL")


COMMAND = (sys.executable, "-m", "tests.support.stand_ins")


def make_run(folder: Path, **env: str) -> AbstractAsyncContextManager[Terminal]:
    """`make run` with stand-ins."""
    return run_in_terminal(COMMAND, environment(folder, **env))


def environment(folder: Path, **env: str) -> dict[str, str]:
    return {"DATA_DIR": str(folder), "PORT": str(free_port()), "GATEWAYS": "1", **env}


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


async def environment_of(url: str) -> dict[str, str]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/environment") as answer:
        told: dict[str, str] = json.loads(await answer.read())
        return told


async def refused(folder: Path, **env: str) -> str:
    """The only line of a start that is refused: by a process that has its imports, which took most of the time."""
    with tempfile.NamedTemporaryFile() as output:
        process = Forked("make run", COMMAND, passed_on() | environment(folder, **env), Path(output.name))
        await process.start()
        try:
            async with asyncio.timeout(30):
                assert await process.wait() == 2
        finally:
            process.kill_now()
        lines = output.read().decode().splitlines()
    faults = [line for line in lines if not line.startswith("reelway | starting")]
    assert len(faults) == 1, lines
    return faults[0]


async def test_started_again_it_finds_its_data_and_its_keys(tmp_path: Path) -> None:
    async with make_run(tmp_path / "data") as terminal:
        url = (await terminal.says(r"ready: (http://\S+)"))[1]
        await until(lambda: sum(f" {url}/videos" in line for line in terminal.lines) == 3)
        first = await environment_of(url)
        async with redis.asyncio.Redis.from_url(first["REDIS_URL"]) as client:
            await client.set("video", "kept")
        children = terminal.children()
        assert len(children) == 4
        assert await terminal.ends(signal.SIGINT) == 0
        assert not any(map(is_alive, children))
        assert "Traceback" not in "\n".join(terminal.lines)
    secrets = sorted((tmp_path / "data" / "secrets").iterdir())
    assert [oct(one.stat().st_mode & 0o777) for one in secrets] == ["0o600"] * 3
    async with make_run(tmp_path / "data", PORT="0") as terminal:
        second = await environment_of((await terminal.says(r"ready: (http://\S+)"))[1])
        assert {name: second[name] for name in KEPT} == {name: first[name] for name in KEPT}
        async with redis.asyncio.Redis.from_url(second["REDIS_URL"]) as client:
            assert await client.get("video") == b"kept"
        assert await terminal.ends(signal.SIGTERM) == 0


async def test_what_dies_is_started_again_and_its_data_is_there(tmp_path: Path) -> None:
    async with make_run(tmp_path) as terminal:
        url = (await terminal.says(r"ready: (http://\S+)"))[1]
        told = await environment_of(url)
        async with redis.asyncio.Redis.from_url(told["REDIS_URL"]) as client:
            await client.set("video", "kept")
        for pid in terminal.children():
            if any(word in command_of(pid) for word in ("redis-server", "stand_ins.gateway")):
                os.kill(pid, signal.SIGKILL)
        await terminal.says(r"gateway was ended by SIGKILL; starting it again in \d\.\d s")
        await terminal.says(r"redis was ended by SIGKILL; starting it again in \d\.\d s")
        await terminal.says("gateway is ready again")
        await terminal.says("redis is ready again")
        assert await environment_of(url)
        async with redis.asyncio.Redis.from_url(told["REDIS_URL"]) as client:
            assert await client.get("video") == b"kept"
        assert await terminal.ends(signal.SIGINT) == 0


async def test_the_gateway_finishes_what_it_began_before_anything_else_ends(tmp_path: Path) -> None:
    async with make_run(tmp_path) as terminal:
        url = (await terminal.says(r"ready: (http://\S+)"))[1]
        async with aiohttp.ClientSession() as session, session.get(f"{url}/slow") as answer:
            terminal.process.send_signal(signal.SIGINT)
            assert await answer.text() == "begun and finished"
        assert await terminal.ends() == 0
        assert not [line for line in terminal.lines if "again" in line]


async def test_a_second_ctrl_c_waits_for_nothing(tmp_path: Path) -> None:
    async with make_run(tmp_path) as terminal:
        url = (await terminal.says(r"ready: (http://\S+)"))[1]
        children = terminal.children()
        async with aiohttp.ClientSession() as session, session.get(f"{url}/endless") as answer:
            terminal.process.send_signal(signal.SIGINT)
            await terminal.says("stopping")
            terminal.process.send_signal(signal.SIGINT)
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.text()
        assert await terminal.ends() == 0
        assert not any(map(is_alive, children))


GIVEN = {
    "WORK_DIR": "/large-disk",
    "FFPROBE_BIN": os.path.realpath(static("ffprobe")),
    "UPLOAD_MAX_BYTES": "1GiB",
    "DRAIN_NOTICE_SECONDS": "0.25",
}
NOBODY = "http://127.0.0.1:1"


@dataclass(frozen=True)
class Running:
    """One that is ready, for all tests that only look at it."""

    terminal: Terminal
    url: str
    environment: dict[str, str]
    folder: Path

    @classmethod
    @asynccontextmanager
    async def start(cls, folder: Path, **env: str) -> AsyncIterator["Running"]:
        async with make_run(folder, **env) as terminal:
            url = (await terminal.says(r"ready: (http://\S+)"))[1]
            yield cls(terminal, url, await environment_of(url), folder)
            assert await terminal.ends(signal.SIGINT) == 0


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    proxies = {"http_proxy": NOBODY, "HTTP_PROXY": NOBODY, "NO_PROXY": ".example.com"}
    # Every machine has this locale; it stands for those whose encoding is not UTF-8.
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    folder = tmp_path_factory.mktemp("data")
    # As where a disk is mounted, or after `make token`.
    folder.chmod(0o755)
    # Of a run that ended.
    (folder / "lock").write_text("4194304\n")
    async with Running.start(folder, HOST="0.0.0.0", **GIVEN, **proxies, **ascii_only) as one:
        yield one


@pytest.fixture(scope="module")
async def elsewhere(
    redis_url: str, juicefs_s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """With servers and a place for logs of its own, on IPv6, in a folder that no filter graph can name."""
    folder = tmp_path_factory.mktemp("data") / "my vidéos"
    env = {"HOST": "::1", "LOG_DIR": str(folder / "logs"), "REDIS_URL": redis_url, **juicefs_s3.environment}
    async with Running.start(folder, **env) as one:
        yield one


async def test_it_listens_where_it_is_told(running: Running, elsewhere: Running) -> None:
    assert running.url.startswith("http://127.0.0.1:")
    assert running.environment["HOST"] == "0.0.0.0"
    assert elsewhere.url.startswith("http://[::1]:")
    assert elsewhere.environment["HOST"] == "::1"


async def test_every_other_variable_reaches_the_processes_as_it_is(running: Running) -> None:
    assert {name: running.environment[name] for name in GIVEN} == GIVEN


async def test_jobs_run_elsewhere_where_the_data_lies_in_a_folder_that_no_filter_graph_can_name(
    elsewhere: Running,
) -> None:
    assert elsewhere.environment["WORK_DIR"] == ""  # as not set


async def test_a_proxy_of_the_machine_does_not_stand_between_its_parts(running: Running) -> None:
    """All of which are its own, and ready."""
    assert running.environment["http_proxy"] == NOBODY
    assert running.environment["no_proxy"] == running.environment["NO_PROXY"] == ".example.com,127.0.0.1"


async def test_the_processes_read_their_files_as_utf_8_in_any_locale(running: Running) -> None:
    assert running.environment["PYTHONUTF8"] == "1"


async def test_nobody_else_reads_what_is_kept_in_a_folder_that_was_there(running: Running) -> None:
    folders = [one for one in running.folder.iterdir() if one.is_dir()]
    assert len(folders) == 4
    assert {oct(one.stat().st_mode & 0o777) for one in folders} == {"0o700"}


async def test_a_second_run_on_the_same_data_is_refused(running: Running) -> None:
    line = await refused(running.folder)
    assert line == f"reelway: DATA_DIR {running.folder} is in use by process {running.terminal.process.pid}"
    assert len(running.terminal.children()) == 4


async def test_logs_go_to_files_where_log_dir_is_set(elsewhere: Running) -> None:
    assert all(line.startswith("reelway") for line in elsewhere.terminal.lines)
    assert "listening" in (elsewhere.folder / "logs" / "stream.log").read_text()


async def test_it_says_where_the_metrics_are_in_its_range(running: Running) -> None:
    told = (await running.terminal.says(r"metrics, at /metrics of each: (.*)"))[1]
    addresses = dict(one.split() for one in told.split(", "))
    assert list(addresses) == ["stream", "gateway"]
    first, last = map(int, os.environ["FREE_PORTS"].split("-"))
    assert all(first <= int(address.rpartition(":")[2]) <= last for address in addresses.values())
    async with aiohttp.ClientSession() as http, http.get(f"http://{addresses['stream']}/metrics") as answer:
        assert "# TYPE reelway_rpc_started_total counter" in await answer.text()


async def test_a_busy_port_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = await refused(tmp_path, PORT=str(port))
    assert line == f"reelway: port {port} is in use; take another: make run PORT={port + 1}"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PORT": "eighty"}, "settings: PORT: "),
        ({"FREE_PORTS": "20000-20000"}, "reelway: FREE_PORTS: all of 20000-20000 on 127.0.0.1 are in use"),
        ({"HOST": "192.0.2.1"}, "reelway: cannot listen on 192.0.2.1:"),
        ({"AWS_PROFILE": "nobody-s"}, "reelway: The config profile (nobody-s) could not be found"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_wrong_value_is_said_in_one_line(tmp_path: Path, env: dict[str, str], said: str) -> None:
    assert said in await refused(tmp_path, **env)


async def test_a_data_dir_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    # No permission would stop root, whom CI may run as; these stop everybody.
    assert "reelway: DATA_DIR" in await refused(tmp_path / "file")
    assert "reelway: DATA_DIR /proc/reelway: " in await refused(Path("/proc/reelway"))


async def test_a_log_dir_that_cannot_be_written_is_said_in_one_line(
    tmp_path: Path, redis_url: str, juicefs_s3: S3Server
) -> None:
    servers = {"REDIS_URL": redis_url, **juicefs_s3.environment}
    (tmp_path / "file").write_text("")
    assert "reelway: LOG_DIR" in await refused(tmp_path, LOG_DIR=str(tmp_path / "file"), **servers)
    (tmp_path / "logs" / "stream.log").mkdir(parents=True)
    line = await refused(tmp_path, LOG_DIR=str(tmp_path / "logs"), **servers)
    assert line == f"reelway: LOG_DIR {tmp_path}/logs: {tmp_path}/logs/stream.log: Is a directory"


async def test_a_process_that_never_starts_is_named(tmp_path: Path, redis_url: str, juicefs_s3: S3Server) -> None:
    async with make_run(tmp_path, STAND_IN="fail", REDIS_URL=redis_url, **juicefs_s3.environment) as terminal:
        assert await terminal.ends() == 2
        assert re.search(r"reelway: stream ended with status 1: settings: STAND_IN", terminal.lines[-1])
        assert "Traceback" not in "\n".join(terminal.lines)


async def test_it_serves_and_ends_in_order_after_its_terminal_was_closed(
    tmp_path: Path, redis_url: str, juicefs_s3: S3Server
) -> None:
    ours, its = os.openpty()
    port = free_port()
    env = environment(tmp_path, PORT=str(port), REDIS_URL=redis_url, **juicefs_s3.environment)
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        cwd=ROOT,
        env={**os.environ, **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        start_new_session=True,  # so that no SIGHUP ends it: as under nohup
    )
    os.close(its)
    try:
        said = b""
        while b"ready: " not in said:
            said += await asyncio.to_thread(os.read, ours, 65_536)
        os.close(ours)
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        for pid in children:
            if "stand_ins.gateway" in command_of(pid):
                os.kill(pid, signal.SIGKILL)
        await until(lambda: not all(map(is_alive, children)))
        assert await until_answered(f"http://127.0.0.1:{port}")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0
        assert not any(map(is_alive, children))
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def until_answered(url: str) -> dict[str, str]:
    """Its environment, as soon as it is there again."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                return await environment_of(url)
            await asyncio.sleep(0.1)
