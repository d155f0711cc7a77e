"""The S3 and Redis that every peer of one run shares, and the objects in it."""

import asyncio
import http.client
import secrets
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import load
from bench.load import Request
from bench.signing import Signer
from deploy.local.embedded import EmbeddedRedis, EmbeddedS3

BUCKET = "reelway-bench"
PART_BYTES = 8 * 2**20
PARALLEL_PARTS = 3


@dataclass(frozen=True)
class StoredVideo:
    """One video in S3.

    Attributes:
        video_id: Its UUID, by which Reelway and the FastAPI server know it.
        key: Its S3 key.
        size: Bytes.
    """

    video_id: str
    key: str
    size: int


class Storage:
    """An embedded Redis and S3 in a folder of one run."""

    def __init__(self, folder: Path) -> None:
        self._access_key = "bench-" + secrets.token_hex(4)
        self._secret_key = secrets.token_hex(16)
        self.redis = EmbeddedRedis(folder / "redis")
        self.s3 = EmbeddedS3(folder / "s3", self._access_key, self._secret_key)

    async def start(self) -> None:
        """Start both and make the bucket."""
        await asyncio.gather(self.redis.start(), self.s3.start())
        await self.s3.create_bucket(BUCKET)

    async def stop(self) -> None:
        """Stop both."""
        await asyncio.gather(self.redis.stop(), self.s3.stop())

    @property
    def signer(self) -> Signer:
        """Signs requests for the S3 endpoint."""
        return Signer(self.s3.endpoint_url, self._access_key, self._secret_key, self.s3.region)

    @property
    def address(self) -> tuple[str, int]:
        """Where S3 listens."""
        host, _, port = self.signer.host.partition(":")
        return host, int(port)

    @property
    def env(self) -> dict[str, str]:
        """How Reelway and the FastAPI server are told of it."""
        return {
            "REDIS_URL": self.redis.url,
            "S3_ENDPOINT_URL": self.s3.endpoint_url,
            "S3_BUCKET": BUCKET,
            "AWS_ACCESS_KEY_ID": self._access_key,
            "AWS_SECRET_ACCESS_KEY": self._secret_key,
            "AWS_REGION": self.s3.region,
        }

    def path(self, key: str) -> str:
        """The path of a key on the endpoint."""
        return f"/{BUCKET}/{key}"

    def new_key(self) -> str:
        """A key nobody used."""
        return f"videos/{uuid.uuid4()}.mp4"

    def upload(self, source: Path, key: str) -> load.Load:
        """Put a file under a key, as fast as S3 takes it."""
        return load.multipart(
            self.address,
            asdict(self.signer),
            self.path(key),
            source,
            part_bytes=PART_BYTES,
            parallel=PARALLEL_PARTS,
        )

    def read(self, video: StoredVideo, *, hashing: bool = False) -> load.Load:
        """Read a whole object from S3 itself, which also brings it into the page cache."""
        head = f"GET {self.signer.presign('GET', self.path(video.key))} HTTP/1.1\r\nHost: {self.signer.host}\r\n\r\n"
        return load.read(self.address, [Request(head, video.size)], 1, hashing=hashing)

    def delete(self, video: StoredVideo) -> None:
        """Remove an object; its catalog record, if it has one, stays."""
        target = self.signer.presign("DELETE", self.path(video.key))
        connection = http.client.HTTPConnection(self.signer.host, timeout=30)
        connection.request("DELETE", target)
        status = connection.getresponse().status
        connection.close()
        if status not in {200, 204}:
            raise load.PeerError(f"S3 answered {status} to the removal of an object")
