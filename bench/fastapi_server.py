# mypy: disable-error-code="untyped-decorator,misc"
"""What we compare with: a video server as one writes it in an afternoon with FastAPI and boto3.

Nothing is left out that makes such a server quick: the SDK's transfer manager sends parts at once, bodies go
out in 1 MiB pieces, routes that block run in FastAPI's thread pool, and uvloop and httptools are installed.
"""

import os
import re
import uuid
from typing import Annotated, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from fastapi import FastAPI, Header, HTTPException, UploadFile
from fastapi.responses import StreamingResponse

CHUNK_BYTES = 1024 * 1024

app = FastAPI()
bucket = os.environ["S3_BUCKET"]
s3 = boto3.client(
    "s3",
    endpoint_url=os.environ["S3_ENDPOINT_URL"],
    region_name=os.environ["AWS_REGION"],
    config=Config(
        max_pool_connections=64,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    ),
)


@app.post("/videos", status_code=201)
def upload(video: UploadFile) -> dict[str, str]:
    """Store a file of a multipart form."""
    video_id = str(uuid.uuid4())
    s3.upload_fileobj(video.file, bucket, f"videos/{video_id}.mp4", ExtraArgs={"ContentType": "video/mp4"})
    return {"id": video_id, "key": f"videos/{video_id}.mp4"}


@app.get("/videos/{video_id}/stream")
def stream(video_id: str, range_: Annotated[str | None, Header(alias="Range")] = None) -> StreamingResponse:
    """Give a video, or a range of it."""
    key = f"videos/{video_id}.mp4"
    try:
        size = s3.head_object(Bucket=bucket, Key=key)["ContentLength"]
    except ClientError as error:
        raise HTTPException(404, "Video not found") from error
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(size)}
    arguments: dict[str, Any] = {}
    status = 200
    if range_ is not None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", range_)
        if match is None or int(match[1]) >= size:
            raise HTTPException(416, headers={"Content-Range": f"bytes */{size}"})
        start = int(match[1])
        end = min(int(match[2] or size - 1), size - 1)
        arguments["Range"] = f"bytes={start}-{end}"
        headers |= {"Content-Range": f"bytes {start}-{end}/{size}", "Content-Length": str(end - start + 1)}
        status = 206
    body = s3.get_object(Bucket=bucket, Key=key, **arguments)["Body"]
    return StreamingResponse(body.iter_chunks(CHUNK_BYTES), status, headers, "video/mp4")
