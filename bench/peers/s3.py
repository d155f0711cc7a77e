"""S3 itself."""

from pathlib import Path

from bench.load import Load, Request
from bench.peers import get_request
from bench.processes import ProcessSet
from bench.storage import Storage, StoredVideo


def presigned_get(storage: Storage, video: StoredVideo, start: int, length: int | None) -> Request:
    """A signed GET; the Range is not part of the signature."""
    target = storage.signer.presign("GET", storage.path(video.key))
    return get_request(storage.signer.host, target, video, start, length)


class S3Directly:
    """The client speaks to S3 with presigned requests; uploads are multipart, three parts at once."""

    name = "s3"
    title = "S3 directly"
    caches = False
    processes = ProcessSet({})

    def __init__(self, storage: Storage, folder: Path | None = None) -> None:
        self._storage = storage

    async def start(self) -> None:
        """Nothing: the storage runs already."""

    async def stop(self) -> None:
        """Nothing."""

    @property
    def address(self) -> tuple[str, int]:
        """Where S3 listens."""
        return self._storage.address

    def get(self, video: StoredVideo, start: int = 0, length: int | None = None) -> Request:
        """A presigned GET."""
        return presigned_get(self._storage, video, start, length)

    def upload(self, source: Path) -> tuple[Load, StoredVideo]:
        """A multipart upload."""
        key = self._storage.new_key()
        done = self._storage.upload(source, key)
        return done, StoredVideo(Path(key).stem, key, source.stat().st_size)
