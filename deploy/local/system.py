"""The whole system on this machine: its servers and its processes, started and stopped in order."""

import contextlib
import importlib.util
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from deploy.local.checks import check_bucket, check_isolation, check_redis
from deploy.local.embedded import EmbeddedRedis, EmbeddedS3
from deploy.local.keys import load_keys
from deploy.local.ports import claim, free_port, is_free
from deploy.local.process import LineSink, Process, StartError
from deploy.local.replica import Replica
from deploy.local.services import SERVICES, Kind, Service
from deploy.local.settings import LocalSettings
from services.common.allocator import TUNABLES
from services.common.server import TIDY_SECONDS
from services.common.tasks import all_of
from services.ffmpeg.binaries import ProgramMissing, Programs, find
from services.ffmpeg.isolation import Mode
from services.ffmpeg.paths import PLAIN_PATH

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


class Part(Protocol):
    """A server or a process: something that is started, watched and stopped."""

    name: str

    @property
    def process(self) -> Process:
        """The process of the last start."""

    async def start(self) -> None:
        """Starts it and returns once it is ready; again after an end, at the same address."""

    async def stop(self) -> None:
        """Ends it; nothing happens where it does not run."""


class System:
    """Everything that `make run` starts.

    Args:
        settings: what is embedded and what is not, and where data is kept.
        env: the environment that every process gets, besides its addresses and keys.
        output: for the name of a service's process, where its lines go.
        services: which processes there are.
        replicas: how many of a service, by its name; default 1. Gateways share the port.
        overrides: variables for every process that go over all that is worked out here.
        launch: how processes are run, see Replica.
    """

    def __init__(
        self,
        settings: LocalSettings,
        env: Mapping[str, str],
        output: Callable[[str], LineSink | Path],
        services: Sequence[Service] = SERVICES,
        *,
        replicas: Mapping[str, int] | None = None,
        overrides: Mapping[str, str] | None = None,
        launch: type[Process] = Process,
    ) -> None:
        self._settings = settings
        self._env = env
        self._output = output
        self._services = services
        self._replicas = replicas or {}
        self._overrides = overrides or {}
        self._launch = launch
        self.keys = load_keys(settings)
        self.redis: EmbeddedRedis | None = None
        self.s3: EmbeddedS3 | None = None
        self.replicas: list[Replica] = []
        self.port = settings.port or free_port()
        self._claim: socket.socket | None = None

    @property
    def base_url(self) -> str:
        """Where the gateway answers, from this machine."""
        return f"http://{_reachable(self._settings.host)}:{self.port}"

    @property
    def redis_url(self) -> str:
        """The Redis in use."""
        return self.redis.url if self.redis else self._settings.redis_url

    @property
    def s3_endpoint_url(self) -> str:
        """The S3 in use, as the services reach it."""
        return self.s3.endpoint_url if self.s3 else self._settings.s3_endpoint_url

    @property
    def metrics(self) -> dict[str, str]:
        """Where each process has its page of metrics: host:port by name."""
        return {replica.name: replica.env["METRICS_LISTEN"] for replica in self.replicas}

    @property
    def parts(self) -> list[Part]:
        """All that runs, in the order of the start."""
        servers: list[Part] = [server for server in (self.redis, self.s3) if server]
        return [*servers, *self.replicas]

    @property
    def _gateways(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.service.kind is Kind.GATEWAY]

    async def start(self) -> None:
        """Starts everything, and returns once every part says that it is ready.

        Raises:
            StartError: one can't be started; what was started is for `stop`.
        """
        self._claim_port()
        if any(service.isolates for service in self._services):
            check_isolation(Mode(self._settings.isolation))
        programs = self._programs()
        await self._start_servers()
        self._plan_replicas(programs)
        # The gateway after what it calls: it would only tell us, again and again, that it is not ready.
        await all_of(replica.start() for replica in self.replicas if replica not in self._gateways)
        await all_of(gateway.start() for gateway in self._gateways)

    def _programs(self) -> Programs:
        try:
            return find(self._settings.ffmpeg_bin, self._settings.ffprobe_bin)
        except ProgramMissing as error:
            raise StartError(str(error)) from None

    async def stop(self) -> None:
        """Ends everything: first those that nobody calls, then whom they call, then what they keep state in."""
        callers = [replica for replica in self.replicas if not replica.service.target]
        await all_of(caller.stop() for caller in callers)
        await all_of(replica.stop() for replica in self.replicas if replica not in callers)
        await all_of(part.stop() for part in self.parts)
        if self._claim:
            self._claim.close()

    def kill(self) -> None:
        """Ends everything at once."""
        for part in self.parts:
            with contextlib.suppress(RuntimeError):  # it was not started yet
                part.process.kill_now()

    def _claim_port(self) -> None:
        """Claimed before it is looked at: gateways share their port, with those of another system as well."""
        try:
            self._claim = claim(self._settings.host, self.port)
            free = self._claim is not None and is_free(self._settings.host, self.port)
        except OSError as error:
            raise StartError(f"cannot listen on {self._settings.host}:{self.port}: {error.strerror}") from error
        if not free:
            raise StartError(f"port {self.port} is in use; take another: make run PORT={self.port + 1}")

    async def _start_servers(self) -> None:
        settings = self._settings
        folder = settings.data_dir.absolute()
        logs = folder / "logs"
        try:
            logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, elsewhere in (("redis", settings.redis_url), ("s3", settings.s3_endpoint_url)):
                if not elsewhere:
                    (logs / f"{name}.log").open("ab").close()
        except OSError as error:
            raise StartError(f"DATA_DIR {settings.data_dir}: {error.filename}: {error.strerror}") from error
        if not settings.redis_url:
            self.redis = EmbeddedRedis(folder / "redis", logs / "redis.log")
        if not settings.s3_endpoint_url:
            self.s3 = EmbeddedS3(folder / "s3", self.keys.access_key, self.keys.secret_key, logs / "s3.log")
        await all_of(part.start() for part in self.parts)
        if self.s3:
            await self.s3.create_bucket(settings.s3_bucket)
        else:
            await check_bucket(settings, self.keys)
        if not self.redis:
            await check_redis(settings.redis_url)

    def _plan_replicas(self, programs: Programs) -> None:
        listens = {service.name: self._addresses(service) for service in self._services}
        shared = self._shared_environment(programs)
        shared |= {service.target: ",".join(listens[service.name]) for service in self._services if service.target}
        for service in self._services:
            several = len(listens[service.name]) > 1
            for number, listen in enumerate(listens[service.name], 1):
                name = f"{service.name}-{number}" if several else service.name
                replica = Replica(
                    service,
                    name,
                    listen=listen,
                    env={
                        **self._env,
                        **shared,
                        **self._listen_environment(service, listen, several=several),
                        **self._overrides,
                    },
                    output=self._output(name),
                    stop_seconds=self._settings.drain_seconds + TIDY_SECONDS,
                    launch=self._launch,
                )
                self.replicas.append(replica)

    def _addresses(self, service: Service) -> list[str]:
        """Of each replica one at which nobody else answers."""
        count = self._replicas.get(service.name, 1)
        if service.kind is Kind.GATEWAY and count == 1:
            return [f"{_reachable(self._settings.host)}:{self.port}"]
        return [f"127.0.0.1:{free_port()}" for _ in range(count)]

    def _listen_environment(self, service: Service, listen: str, *, several: bool) -> dict[str, str]:
        metrics = {"METRICS_LISTEN": f"127.0.0.1:{free_port()}"}
        if service.kind is Kind.GATEWAY:
            own = {"OWN_LISTEN": listen} if several else {}
            return {"HOST": self._settings.host, "PORT": str(self.port), **own, **metrics}
        return {"GRPC_LISTEN": listen, **metrics}

    def transcripts_environment(self) -> dict[str, str]:
        """The engine that is asked for, else the one that is installed: without any, transcripts fail and say so."""
        engine = "faster-whisper" if self._settings.run_transcripts and _has_engine() else "none"
        models = str(self._settings.data_dir.absolute() / "models")
        return {
            "TRANSCRIBE_ENGINE": self._env.get("TRANSCRIBE_ENGINE") or engine,
            "TRANSCRIBE_CACHE_DIR": self._env.get("TRANSCRIBE_CACHE_DIR") or models,
        }

    def _shared_environment(self, programs: Programs) -> dict[str, str]:
        settings = self._settings
        return {
            "REDIS_URL": self.redis_url,
            "S3_ENDPOINT_URL": self.s3_endpoint_url,
            "S3_PUBLIC_ENDPOINT_URL": settings.s3_public_endpoint_url,
            "S3_BUCKET": settings.s3_bucket,
            "AWS_REGION": settings.aws_region,
            "AWS_ACCESS_KEY_ID": self.keys.access_key,
            "AWS_SECRET_ACCESS_KEY": self.keys.secret_key,
            "AWS_SESSION_TOKEN": self.keys.session_token,
            "AUTH_JWT_SECRET": self.keys.jwt_secret,
            "FFMPEG_BIN": programs.ffmpeg,
            "FFPROBE_BIN": programs.ffprobe,
            **self.transcripts_environment(),
            "WORK_DIR": work_folder(settings, self._env),
            "LOG_FORMAT": settings.log_format,
            "DRAIN_SECONDS": str(settings.drain_seconds),
            # One client, one replica: there is no balancer that would have to hear of the end first.
            "DRAIN_NOTICE_SECONDS": self._env.get("DRAIN_NOTICE_SECONDS", "0"),
            "PYTHONUNBUFFERED": "1",
            # Our files are UTF-8, and so are the lines that we read, whatever the locale.
            "PYTHONUTF8": "1",
            "GLIBC_TUNABLES": self._env.get("GLIBC_TUNABLES") or TUNABLES,
        }


def work_folder(settings: LocalSettings, env: Mapping[str, str]) -> str:
    """The processes' WORK_DIR: as it is set, else beside the data.

    Empty, for the workers' own default, where the data's folder has a name unfit for jobs.
    """
    folder = str((settings.data_dir / "work").resolve())
    return env.get("WORK_DIR") or (folder if PLAIN_PATH.fullmatch(folder) else "")


def _has_engine() -> bool:
    return importlib.util.find_spec("faster_whisper") is not None


def _reachable(host: str) -> str:
    """How a listening address is written in a URL on this machine."""
    host = ANY_ADDRESS.get(host, host)
    return f"[{host}]" if ":" in host else host
