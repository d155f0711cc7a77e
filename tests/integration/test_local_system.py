"""The system that tests and `make run` start, with stand-ins for its processes."""

import json
import os
import socket
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import aiohttp
import jwt
import pytest
from pydantic import SecretStr

from deploy.local import checks, command, ports, token
from deploy.local.command import main
from deploy.local.embedded import EmbeddedRedis
from deploy.local.keys import load_keys
from deploy.local.ports import free_port, is_free
from deploy.local.process import StartError, reach_this_machine_directly
from deploy.local.services import SERVICES, Service
from deploy.local.settings import LocalSettings
from deploy.local.system import System
from gateway.auth import Authenticator
from gateway.settings import GatewaySettings
from services.common.server import TIDY_SECONDS
from services.common.settings import load
from services.ffmpeg.isolation import Mode
from services.ffmpeg.settings import WorkerSettings
from tests.support.servers import S3Server
from tests.support.stand_ins.__main__ import STAND_INS
from tests.support.system import RunningSystem, start_system
from tests.support.waiting import is_alive

NOBODY = "http://127.0.0.1:1"


async def get(url: str) -> dict[str, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200
        body: dict[str, str] = json.loads(await answer.read())
        return body


async def test_processes_are_told_where_everything_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere.invalid:1/0")
    async with start_system(tmp_path, services=STAND_INS, env={"EXTRA": "1"}, stream=2) as system:
        assert [one.name for one in system.processes] == ["stream-1", "stream-2", "gateway"]
        told = await get(f"{system.base_url}/environment")
        assert told["REDIS_URL"] == system.redis_url
        assert told["S3_ENDPOINT_URL"] == system.s3.endpoint_url
        streams = [system.process(name).listen for name in ("stream-1", "stream-2")]
        assert told["STREAM_TARGET"].split(",") == streams
        assert len(set(streams)) == 2
        assert told["EXTRA"] == "1"
        # Before it is killed each has the time to tidy up behind its drain.
        assert {one._stop_seconds for one in system.processes} == {float(told["DRAIN_SECONDS"]) + TIDY_SECONDS}
        user = uuid4()
        claims = jwt.decode(system.token(user), told["AUTH_JWT_SECRET"], algorithms=["HS256"])
        assert UUID(claims["sub"]) == user
        pids = [one.pid for one in system.processes]
        assert all(map(is_alive, pids))
    assert not any(map(is_alive, pids))


async def test_what_calls_a_service_ends_before_it(tmp_path: Path, redis_url: str, juicefs_s3: S3Server) -> None:
    """A worker's jobs go on while it drains, and read from the others meanwhile."""
    stream = STAND_INS[0]
    worker = replace(stream, name="worker", target="")
    slow = {"DRAIN_NOTICE_SECONDS": "0.3"}
    async with start_system(
        tmp_path, services=(stream, worker), env=slow, redis_url=redis_url, s3=juicefs_s3
    ) as system:
        pass

    def time_of(process: str, event: str) -> str:
        lines = map(json.loads, (system.log_dir / f"{process}.log").read_text().splitlines())
        return next(str(line["timestamp"]) for line in lines if line["event"] == event)

    assert time_of("worker", "stopped") < time_of("stream", "draining")


async def test_a_killed_process_comes_back_at_its_address(tmp_path: Path, redis_url: str, juicefs_s3: S3Server) -> None:
    async with start_system(tmp_path, services=STAND_INS, redis_url=redis_url, s3=juicefs_s3) as system:
        stream = system.process("stream")
        pid, listen = stream.pid, stream.listen
        await stream.kill()
        assert not await stream.is_ready()
        await stream.start()
        assert (stream.pid != pid, stream.listen) == (True, listen)
        assert await stream.is_ready()


async def test_a_bucket_that_is_not_there_is_said(tmp_path: Path, redis_url: str, juicefs_s3: S3Server) -> None:
    missing = S3Server(
        juicefs_s3.endpoint_url, juicefs_s3.access_key, juicefs_s3.secret_key, juicefs_s3.region, "not-there"
    )
    with pytest.raises(StartError, match="S3_BUCKET: there is no bucket 'not-there'"):
        async with start_system(tmp_path, services=STAND_INS, redis_url=redis_url, s3=missing):
            pass
    wrong = S3Server(juicefs_s3.endpoint_url, juicefs_s3.access_key, "wrong-secret", juicefs_s3.region, "not-there")
    with pytest.raises(StartError, match="answers 403"):
        async with start_system(tmp_path, services=STAND_INS, redis_url=redis_url, s3=wrong):
            pass


async def test_an_s3_whose_keys_are_nowhere_is_said(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    without = S3Server(NOBODY, "", "", "us-east-1", "any-bucket")
    with pytest.raises(StartError, match=r"^AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: "):
        async with start_system(tmp_path, services=STAND_INS, redis_url=redis_url, s3=without):
            pass


async def test_an_s3_that_does_not_answer_is_said(tmp_path: Path, redis_url: str) -> None:
    nowhere = S3Server(NOBODY, "access", "secret", "us-east-1", "any-bucket")
    with pytest.raises(StartError, match=rf"^S3_ENDPOINT_URL: no S3 answers there: .*{NOBODY}"):
        async with start_system(tmp_path, services=STAND_INS, redis_url=redis_url, s3=nowhere):
            pass


async def test_a_proxy_of_the_environment_is_none_for_s3(
    tmp_path: Path, juicefs_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The services go by none, either."""
    monkeypatch.setenv("http_proxy", NOBODY)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    there = LocalSettings(
        data_dir=tmp_path,
        s3_endpoint_url=juicefs_s3.endpoint_url,
        s3_bucket=juicefs_s3.bucket,
        aws_access_key_id=juicefs_s3.access_key,
        aws_secret_access_key=SecretStr(juicefs_s3.secret_key),
    )
    await checks.check_bucket(there, load_keys(there))


async def test_a_redis_that_does_not_answer_is_said(tmp_path: Path, juicefs_s3: S3Server) -> None:
    with pytest.raises(StartError, match="REDIS_URL: no Redis answers there"):
        async with start_system(tmp_path, services=STAND_INS, redis_url="redis://127.0.0.1:1/0", s3=juicefs_s3):
            pass


@pytest.mark.parametrize("option", ["socket_timeout=soon", "ssl_ca_cert=/etc/ca.pem"])
async def test_an_option_that_a_redis_url_cannot_have_is_said(option: str) -> None:
    with pytest.raises(StartError, match=r"^REDIS_URL: "):
        await checks.check_redis(f"redis://127.0.0.1:1/0?{option}")


async def test_a_port_belongs_to_one_system_before_anybody_listens_there(
    tmp_path: Path, redis_url: str, juicefs_s3: S3Server
) -> None:
    """Two that start at a time would both find it free, and their gateways share it."""

    def start(folder: str, port: int = 0) -> AbstractAsyncContextManager[RunningSystem]:
        services = STAND_INS[:1]
        return start_system(tmp_path / folder, services=services, redis_url=redis_url, s3=juicefs_s3, port=port)

    async with start("first") as first:
        port = int(first.base_url.rpartition(":")[2])
        with pytest.raises(StartError, match=f"port {port} is in use"):
            async with start("second", port):
                pass
    async with start("second", port):
        pass


def test_a_port_that_was_served_a_moment_ago_is_free() -> None:
    """What is left of its connections stands in nobody's way: whoever stops it can start it again at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
        assert not is_free("127.0.0.1", port)
    assert is_free("127.0.0.1", port)


def test_a_port_is_handed_out_once_and_first_of_those_that_clients_never_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, of_clients = free_port(), tmp_path / "ip_local_port_range"
    monkeypatch.setattr(ports, "_EPHEMERAL", of_clients)
    monkeypatch.setattr(ports, "_handed_out", set())
    monkeypatch.setattr(ports, "_lane", range(port, port + 1000))
    of_clients.write_text(f"{port + 1}\t60999\n")
    assert free_port() == port
    with pytest.raises(StartError, match=f"^FREE_PORTS: all of {port}-{port} "):
        free_port()
    monkeypatch.setattr(ports, "_handed_out", set())
    monkeypatch.setattr(ports, "_lane", range(port, port + 1))
    of_clients.write_text(f"{port}\t60999\n")
    assert free_port() == port


@pytest.mark.parametrize(
    ("given", "told"),
    [("", "127.0.0.1"), (".example.com", ".example.com,127.0.0.1"), ("*", "*")],
)
def test_what_is_reached_without_a_proxy_stays_so(given: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, given)
    reach_this_machine_directly()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == told


def test_a_key_that_a_power_cut_left_empty_is_made_again(tmp_path: Path) -> None:
    settings = LocalSettings(data_dir=tmp_path)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "auth_jwt_secret").write_text("\n")
    keys = load_keys(settings)
    assert len(keys.jwt_secret) == 64
    assert load_keys(settings) == keys


def test_a_kernel_without_a_layer_is_said_where_all_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    without = SimpleNamespace(missing=("Landlock", "user namespaces"))
    monkeypatch.setattr(checks, "detect_layers", lambda: without)
    with pytest.raises(StartError, match=r"^this kernel has no Landlock and no user namespaces, "):
        checks.check_isolation(Mode.STRICT)
    checks.check_isolation(Mode.BEST_EFFORT)


def test_what_was_not_started_yet_is_no_obstacle_to_an_end_at_once(tmp_path: Path) -> None:
    system = System(LocalSettings(data_dir=tmp_path), {}, lambda name: tmp_path / name, STAND_INS)
    system.redis = EmbeddedRedis(tmp_path / "redis")
    system.kill()


@pytest.mark.parametrize(
    "inside", ["redis", "s3/blocks", "s3/port/in-the-way", "logs/redis.log/in-the-way", "logs/s3.log/x"]
)
async def test_a_folder_of_data_dir_that_cannot_be_used_is_said_in_one_line(tmp_path: Path, inside: str) -> None:
    in_the_way = tmp_path / inside
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("")
    system = System(LocalSettings(data_dir=tmp_path, port=0), {}, lambda name: tmp_path / name, STAND_INS)
    fault = r"(File exists|Is a directory|Not a directory)"
    with pytest.raises(StartError, match=rf"^DATA_DIR.*: {tmp_path}/\S+: {fault}$"):
        await system.start()
    await system.stop()


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[LocalSettings]:
    """Of the systems that `make run` would have started."""
    found: list[LocalSettings] = []

    async def start(settings: LocalSettings, services: Sequence[Service]) -> None:
        found.append(settings)

    monkeypatch.setattr(command, "_run", start)
    return found


@pytest.mark.usefixtures("starts")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FREE_PORTS", "20000", "FREE_PORTS: "),
        ("FREE_PORTS", "80-90", "FREE_PORTS: not FIRST-LAST of 1024 to 65535"),
        ("S3_ENDPOINT_URL", "minio:9000", "S3_ENDPOINT_URL: "),
        ("REDIS_URL", "localhost", "REDIS_URL: "),
        ("AWS_ACCESS_KEY_ID", "only-one", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: set both or neither"),
        # Those of the processes.
        ("AUTH_JWT_SECRET", "short", "AUTH_JWT_SECRET: at least 32 bytes"),
        ("AUTH_ALGORITHMS", "HS256", "AUTH_ALGORITHMS: "),
        ("CORS_ORIGINS", "xx", "CORS_ORIGINS: "),
        ("HELD_BODY_BYTES", "1", "HELD_BODY_BYTES: "),
        ("APPEND_ORPHAN_SECONDS", "1", "APPEND_ORPHAN_SECONDS: must be at least APPEND_MAX_SECONDS"),
        ("JOB_RENEW_SECONDS", "50", "JOB_RENEW_SECONDS must be at most"),
    ],
)
def test_a_setting_that_cannot_be_is_said_in_one_line(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main()
    line = capsys.readouterr().err
    assert line.startswith(f"settings: {said}")
    assert line.count("\n") == 1


@pytest.mark.parametrize("services", [SERVICES, STAND_INS], ids=["services", "stand-ins"])
def test_what_each_process_is_given_whatever_is_set_is_not_looked_at(
    services: Sequence[Service], starts: list[LocalSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket is given, too, which they need."""
    monkeypatch.setenv("GRPC_LISTEN", "0.0.0.0:1")
    monkeypatch.setenv("METRICS_LISTEN", "everywhere")
    assert main(services) == 0
    assert len(starts) == 1


class UnfitDefault(WorkerSettings):
    """As where TMPDIR has a space."""

    work_dir: Path = Path("/tmp/a b")


@pytest.mark.usefixtures("starts")
def test_the_default_of_the_work_folder_is_looked_at_only_where_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is, where jobs cannot use a folder of DATA_DIR."""
    workers = [Service("worker", "services.ffmpeg.worker", settings=UnfitDefault)]
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    assert main(workers) == 0
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "my data"))
    with pytest.raises(SystemExit):
        main(workers)
    assert capsys.readouterr().err.startswith("settings: WORK_DIR: only letters")


def test_each_process_of_the_table_exists_once() -> None:
    names = [service.name for service in SERVICES]
    assert len(set(names)) == len(names)
    missing = [service for service in SERVICES if not module_file(service).exists()]
    assert not missing


def module_file(service: Service) -> Path:
    return Path(__file__).parents[2] / service.module.replace(".", "/") / "__main__.py"


def test_a_token_expires() -> None:
    made = token.development_token("s" * 32, uuid4(), days=-1)
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(made, "s" * 32, algorithms=["HS256"])


async def test_a_token_is_one_that_the_gateway_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both read the same variables."""
    user = str(uuid4())
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    for name, value in (("AUTH_JWT_SECRET", "s" * 32), ("AUTH_AUDIENCE", "videos"), ("AUTH_ISSUER", "https://id.test")):
        monkeypatch.setenv(name, value)
    assert token.main([user]) == 0
    made = capsys.readouterr().out.strip()
    async with aiohttp.ClientSession() as http:
        assert await Authenticator(load(GatewaySettings), http).user(f"Bearer {made}") == user
