"""What an attempt notes of its outputs, and what is left of them."""

import os
import uuid
from pathlib import Path

from services.common.s3_objects import S3Objects
from services.ffmpeg.outputs import key_of
from services.ffmpeg.redis_job_store import Holding
from services.ffmpeg.work_folder import CollectedOutput
from services.ffmpeg.worker.handler import NoLongerHeld


class Notes:
    """An attempt's notes, held until told otherwise."""

    def __init__(self) -> None:
        self.uploads: dict[str, str] = {}
        self.lost_at = ""

    async def begin_upload(self, upload_id: str, key: str) -> None:
        if self.lost_at == "begin":
            raise NoLongerHeld(Holding.LOST)
        self.uploads[upload_id] = key

    async def earlier_uploads(self) -> dict[str, str]:
        return self.uploads

    async def still_held(self) -> None:
        if self.lost_at == "end":
            raise NoLongerHeld(Holding.LOST)


def output(folder: Path, name: str, body: bytes) -> CollectedOutput:
    path = folder / str(uuid.uuid4())
    path.write_bytes(body)
    return CollectedOutput(f"for {name}", name, len(body), os.open(path, os.O_RDONLY))


async def left(objects: S3Objects, job_id: str) -> tuple[list[str], list[str]]:
    """(objects, unfinished uploads) of a job."""
    prefix = key_of(job_id, "")
    uploads = [found.key async for found in objects.list_multiparts("ffmpeg-outputs/") if found.key.startswith(prefix)]
    return [found.key async for found in objects.list(prefix)], uploads
