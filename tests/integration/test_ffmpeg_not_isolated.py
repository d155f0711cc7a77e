"""Started processes on a kernel that lacks layers of isolation: strict ones take nothing and say why."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from reelway.v1 import ffmpeg_pb2, ffmpeg_pb2_grpc

from deploy.local.ports import free_port
from deploy.local.process import Process
from services.common.channel import open_channel
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from tests.support.programs import static
from tests.support.servers import S3Server
from tests.support.system import passed_on
from tests.support.terminal import run_in_terminal
from tests.support.waiting import until

FRONT, WORKER, GATEWAY = "services.ffmpeg", "services.ffmpeg.worker", "gateway"
COMMAND = ffmpeg_pb2.CommandWork(command="-f lavfi -i color -t 1 out_1", output_files={"out_1": "a.mp4"})
NOT_SERVING, SERVING = health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True)
class Machine:
    """What starts processes."""

    folder: Path
    environment: dict[str, str]
    stack: AsyncExitStack

    async def start(self, name: str, module: str, without: str = "", **settings: str) -> Process:
        """The module's process; `without` names layers that its kernel has not."""
        hidden = ["tests.support.without_layers", without] if without else []
        argv = [sys.executable, "-m", *hidden, module]
        process = Process(name, argv, self.environment | settings, self.folder / f"{name}.log")
        await process.start()
        self.stack.push_async_callback(process.kill)
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


@pytest.fixture(scope="module")
async def machine(
    redis_url: str, juicefs_s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    environment = {
        **passed_on(),
        **juicefs_s3.environment,
        "REDIS_URL": redis_url,
        "FFMPEG_BIN": static(),
        "WORK_DIR": str(folder / "work"),
        "LOG_FORMAT": "console",
    }
    async with AsyncExitStack() as stack:
        yield Machine(folder, environment, stack)


@dataclass(frozen=True)
class Started:
    """Addresses."""

    strict: str
    worker: str
    best_effort: str
    gateway: str


@pytest.fixture(scope="module")
async def started(machine: Machine) -> Started:
    """A strict front without Landlock behind a gateway, a strict worker without seccomp, a lenient front with none."""
    found = Started(*(f"127.0.0.1:{free_port()}" for _ in range(4)))
    port = found.gateway.rpartition(":")[2]
    await asyncio.gather(
        machine.start("strict", FRONT, "landlock", GRPC_LISTEN=found.strict),
        machine.start("worker", WORKER, "seccomp", GRPC_LISTEN=found.worker),
        machine.start("lenient", FRONT, "landlock,seccomp", GRPC_LISTEN=found.best_effort, ISOLATION="best-effort"),
        machine.start("gateway", GATEWAY, HOST="127.0.0.1", PORT=port, FFMPEG_TARGET=found.strict),
    )
    return found


async def health_of(address: str, expected: int) -> None:
    """Returns once the process has looked at itself and says so."""

    async def says_so() -> bool:
        async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.RpcError:
                return False
        return bool(answer.status == expected)

    await until(says_so, 60)


async def check_health(address: str) -> ffmpeg_pb2.CheckHealthResponse:
    async with open_channel(address, serving_only=False) as channel:
        stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
        return await stub.CheckHealth(ffmpeg_pb2.CheckHealthRequest(), wait_for_ready=True, timeout=60)


async def test_a_strict_front_is_not_ready_and_names_the_layer(machine: Machine, started: Started) -> None:
    found = await check_health(started.strict)
    assert (found.available, found.isolated, found.isolation_mode) == (True, False, "strict")
    assert "landlock" in found.missing_layers
    assert "selftest:read_outside_denied" in found.missing_layers
    await until(lambda: "not ready" in machine.log("strict"))
    await health_of(started.strict, NOT_SERVING)
    async with open_channel(started.strict, serving_only=False) as channel:
        stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.RegisterTask(ffmpeg_pb2.RegisterTaskRequest(command=COMMAND))
    error = from_rpc_error(refused.value)
    assert error.reason is ErrorReason.ISOLATION_UNAVAILABLE
    assert error.message.startswith("isolation-unavailable: landlock")


async def test_the_gateway_says_so_too(machine: Machine, started: Started) -> None:
    await check_health(started.strict)
    base = f"http://{started.gateway}"
    async with aiohttp.ClientSession(base) as http:

        async def answers() -> bool:
            try:
                async with http.get("/health") as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        await until(answers, 60)
        async with http.get("/health/isolation") as answer:
            body = await answer.json()
            assert answer.status == 503
            assert (body["mode"], body["level"], body["ok"]) == ("strict", "partial", False)
            assert body["missing"][0] == "landlock"
        async with http.get("/ffmpeg/health") as answer:
            assert (answer.status, (await answer.json())["ffmpeg_installed"]) == (200, "yes")
        request = {"ffmpeg_command": COMMAND.command, "input_files": {}, "output_files": {"out_1": "a.mp4"}}
        async with http.post("/ffmpeg/register", json=request) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"]
            assert (await answer.json())["detail"].startswith("isolation-unavailable: landlock")


async def test_a_strict_worker_is_not_ready_and_takes_nothing(machine: Machine, started: Started) -> None:
    await until(lambda: "not ready" in machine.log("worker"), 60)
    await health_of(started.worker, NOT_SERVING)
    assert "isolation-unavailable: seccomp" in machine.log("worker")
    started_line = next(line for line in machine.log("worker").splitlines() if "worker started" in line)
    assert "{}" in started_line, "it has no slots"


async def test_best_effort_is_ready_with_the_policy_alone_and_says_so(machine: Machine, started: Started) -> None:
    await health_of(started.best_effort, SERVING)
    found = await check_health(started.best_effort)
    assert (found.isolated, found.isolation_mode) == (True, "best-effort")
    assert '"level": "args-only"' in found.isolation_json
    assert list(found.missing_layers)[:2] == ["landlock", "seccomp"]
    warning = next(line for line in machine.log("lenient").splitlines() if "[warning" in line)
    assert "isolated=args-only" in warning


@pytest.mark.parametrize(
    ("module", "without", "listens"),
    [(FRONT, "landlock,seccomp", False), (WORKER, "landlock,seccomp", False), (FRONT, "landlock", True)],
)
async def test_best_effort_listens_beyond_loopback_only_behind_a_layer(
    machine: Machine, module: str, without: str, *, listens: bool
) -> None:
    port = free_port()
    name = f"open-{port}"
    environment = {
        "GRPC_LISTEN": f"0.0.0.0:{port}",
        "SERVICE_TOKEN_SECRET": "a secret of thirty-two characters",
        "ISOLATION": "best-effort",
    }
    process = await machine.start(name, module, without, **environment)
    if listens:
        await health_of(f"127.0.0.1:{port}", SERVING)
        return
    assert await asyncio.wait_for(process.wait(), 60) == 2
    assert f"GRPC_LISTEN: 0.0.0.0:{port}: without isolation only loopback is listened on" in machine.log(name)


@pytest.mark.parametrize(
    ("without", "mode", "said"),
    [
        ("landlock", {}, "this kernel has no landlock, which .*; ISOLATION=best-effort does without"),
        (
            "landlock,seccomp",
            {},
            "this kernel has no landlock and no seccomp, which .*; ISOLATION=best-effort does without",
        ),
        ("landlock", {"ISOLATION": "best-effort"}, "FFMPEG_BIN=/nowhere: "),
    ],
)
async def test_make_run_names_the_layer_and_the_setting_at_once(
    tmp_path: Path, without: str, mode: dict[str, str], said: str
) -> None:
    """It would wait a minute for processes that never get ready. What it says of FFMPEG_BIN comes next."""
    command = (sys.executable, "-m", "tests.support.without_layers", without, "deploy.local")
    env = {"DATA_DIR": str(tmp_path), "PORT": str(free_port()), "FFMPEG_BIN": "/nowhere", **mode}
    async with run_in_terminal(command, env) as terminal:
        assert await terminal.ends() == 2
        (line,) = (line for line in terminal.lines if "| starting" not in line)
        assert re.match(f"reelway: {said}", line), line
