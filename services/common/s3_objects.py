"""The store off the byte path: small objects, listings, multipart book-keeping, presigned URLs (aiobotocore).

object_keys.py lists what it holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from services.common import logs, tasks
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.s3_clients import open_clients
from services.common.s3_errors import error_code, s3_errors
from services.common.settings import S3Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import GetObjectOutputTypeDef

log = logs.get_logger(__name__)

_DELETES_AT_ONCE = 8
# Everything else in the process waits while a page is parsed, 0.1 ms for each key.
_PAGE_KEYS = 200
# No other 404: a proxy in front of the store answers so of everything while it is set up.
_MISSING = "NoSuchKey"


@dataclass(frozen=True)
class ObjectInfo:
    """One row of a listing, or the answer to a HEAD."""

    key: str
    size: int
    modified: datetime
    etag: str


@dataclass(frozen=True)
class Slice:
    """A run of bytes of an object."""

    key: str
    start: int
    length: int


@dataclass(frozen=True)
class MultipartInfo:
    """One unfinished multipart upload."""

    key: str
    upload_id: str
    initiated: datetime


class S3Objects:
    """One bucket of an S3 server. Failures are ReelwayError STORE_UNAVAILABLE unless a method says otherwise."""

    def __init__(self, client: S3Client, public: S3Client, checking: S3Client, settings: S3Settings) -> None:
        self._client, self._public, self._checking, self._bucket = client, public, checking, settings.s3_bucket
        self._public_endpoint = settings.public_endpoint

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: S3Settings) -> AsyncIterator[S3Objects]:
        """Connected clients for as long as the context lasts."""
        async with open_clients(settings) as (client, public, checking):
            yield cls(client, public, checking, settings)

    async def check(self) -> None:
        """Raises the SDK's own error, with what the store said, unless the bucket answers; the caller logs it."""
        try:
            await self._checking.head_bucket(Bucket=self._bucket)
        except ClientError:
            # The answer to a HEAD has no body: this one's says why (the region, our clock, the keys).
            await self._checking.list_objects_v2(Bucket=self._bucket, MaxKeys=1)

    async def get(self, key: str) -> bytes | None:
        """The whole of a small object; None where there is none."""
        with s3_errors("GetObject"):
            answer = await self._get(key)
            if answer is None:
                return None
            async with answer["Body"] as body:
                return bytes(await body.read())

    async def _get(self, key: str, **what: Any) -> GetObjectOutputTypeDef | None:
        try:
            return await self._client.get_object(Bucket=self._bucket, Key=key, **what)
        except ClientError as error:
            if error_code(error) == _MISSING:
                return None
            raise

    async def put(self, key: str, body: bytes, content_type: str) -> None:
        """Store a small object whole, over whatever is there."""
        with s3_errors("PutObject"):
            await self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=content_type)

    async def head(self, key: str) -> ObjectInfo | None:
        """What is known of an object; None where there is none."""
        with s3_errors("HeadObject"):
            try:
                answer = await self._client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if error_code(error) not in {_MISSING, "NotFound", "404"}:
                    raise
                # The answer to a HEAD has no body that could say what is missing: this one's has.
                found = await self._get(key, Range="bytes=0-0")
                if found is None:
                    return None
                found["Body"].close()
                size = int(found["ContentRange"].rpartition("/")[2])
                return ObjectInfo(key, size, found["LastModified"], found["ETag"])
        return ObjectInfo(key, answer["ContentLength"], answer["LastModified"], answer["ETag"])

    async def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none.

        One by one: some servers refuse DeleteObjects as current SDKs send it (no Content-MD5).
        """
        with s3_errors("DeleteObject"):
            await self._client.delete_object(Bucket=self._bucket, Key=key)

    async def delete_all(self, prefix: str) -> None:
        """Remove every object whose key begins so."""
        await self.delete_each([info.key async for info in self.list(prefix)])

    async def delete_each(self, keys: Sequence[str]) -> None:
        """Remove these objects, some at a time: the whole process waits while the requests of a batch are signed."""
        await tasks.for_each(keys, self.delete, _DELETES_AT_ONCE)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Every object whose key begins so, in key order."""
        async for page in self.pages(prefix):
            for info in page:
                yield info

    async def pages(self, prefix: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        """The same in short pages, some of which may be empty: for work that is done on several at a time."""
        with s3_errors("ListObjectsV2"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, PaginationConfig={"PageSize": _PAGE_KEYS}
            )
            async for page in pages:
                rows = page.get("Contents", ())
                yield [ObjectInfo(row["Key"], row["Size"], row["LastModified"], row["ETag"]) for row in rows]

    async def folders(self, prefix: str) -> AsyncIterator[tuple[str, Sequence[ObjectInfo]]]:
        """What stands between `prefix` and the next `/` in the keys that begin so, and the objects there, in order.

        One listing of all of it: where most folders have few objects, a request for each would cost far more.
        """
        name, found = "", list[ObjectInfo]()
        async for info in self.list(prefix):
            folder = info.key.removeprefix(prefix).partition("/")[0]
            if found and folder != name:
                yield name, found
                found = []
            name = folder
            found.append(info)
        if found:
            yield name, found

    async def copy(self, source: str, target: str) -> None:
        """Copy an object of at most 5 GiB (S3's limit) inside the store."""
        with s3_errors("CopyObject"):
            await self._client.copy_object(
                Bucket=self._bucket, Key=target, CopySource={"Bucket": self._bucket, "Key": source}
            )

    async def copy_part(self, key: str, upload_id: str, number: int, source: Slice) -> str:
        """Make part `number` from bytes of another object, inside the store; its ETag.

        Raises:
            ReelwayError: VIDEO_NOT_FOUND where the source is gone; STORE_UNAVAILABLE.
        """
        with s3_errors("UploadPartCopy"):
            try:
                answer = await self._client.upload_part_copy(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=upload_id,
                    PartNumber=number,
                    CopySource={"Bucket": self._bucket, "Key": source.key},
                    CopySourceRange=f"bytes={source.start}-{source.start + source.length - 1}",
                )
            except ClientError as error:
                if error_code(error) == _MISSING:
                    raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND) from error
                raise
        return answer["CopyPartResult"]["ETag"]

    async def list_parts(self, key: str, upload_id: str) -> dict[int, tuple[int, str]] | None:
        """Size and ETag of each part that is there, by number; None where there is no such multipart upload."""
        found: dict[int, tuple[int, str]] = {}
        with s3_errors("ListParts"):
            try:
                pages = self._client.get_paginator("list_parts").paginate(
                    Bucket=self._bucket, Key=key, UploadId=upload_id
                )
                async for page in pages:
                    found |= {row["PartNumber"]: (row["Size"], row["ETag"]) for row in page.get("Parts", ())}
            except ClientError as error:
                if error_code(error) == "NoSuchUpload" or not await self._has_multipart(key, upload_id):
                    return None
                raise
        return found

    async def copy_if(self, source: str, key: str, content_type: str, etag: str) -> bool:
        """Make an object of at most 5 GiB from another one, inside the store; False unless that has this ETag."""
        with s3_errors("CopyObject"):
            try:
                await self._client.copy_object(
                    Bucket=self._bucket,
                    Key=key,
                    CopySource={"Bucket": self._bucket, "Key": source},
                    CopySourceIfMatch=etag,
                    MetadataDirective="REPLACE",
                    ContentType=content_type,
                )
            except ClientError as error:
                if error_code(error) in {_MISSING, "PreconditionFailed", "412"}:
                    return False
                raise
        return True

    async def create_multipart(self, key: str, content_type: str) -> str:
        """Begin a multipart upload; its id."""
        with s3_errors("CreateMultipartUpload"):
            answer = await self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type)
        return answer["UploadId"]

    async def complete_multipart(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        """Turn parts 1, 2, … with these ETags into the object. Safe to repeat: done before counts as done."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        with s3_errors("CompleteMultipartUpload"):
            try:
                await self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
                )
            except ClientError as error:
                # The SDK's own retry of a completion whose answer was lost meets a finished upload.
                if error_code(error) != "NoSuchUpload" or await self.head(key) is None:
                    raise

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """Throw a multipart upload away; nothing happens where there is none."""
        with s3_errors("AbortMultipartUpload"):
            try:
                await self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
            except ClientError as error:
                # moto answers 500 for an unknown upload id; whether it is gone is what the listing tells.
                if error_code(error) == "NoSuchUpload" or not await self._has_multipart(key, upload_id):
                    return
                raise

    async def abort_multiparts(self, prefix: str, before: datetime | None = None) -> int:
        """Throw away every multipart upload whose key begins so, or those of them begun before a time; how many.

        Some stores list an upload under no shorter prefix than its whole key.
        """
        found = [each async for each in self.list_multiparts(prefix) if before is None or each.initiated < before]
        for each in found:
            await self.abort_multipart(each.key, each.upload_id)
        return len(found)

    async def _has_multipart(self, key: str, upload_id: str) -> bool:
        return any([upload.upload_id == upload_id async for upload in self.list_multiparts(key)])

    async def list_multiparts(self, prefix: str) -> AsyncIterator[MultipartInfo]:
        """Every unfinished multipart upload whose key begins so."""
        with s3_errors("ListMultipartUploads"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
            async for page in pages:
                for row in page.get("Uploads", ()):
                    yield MultipartInfo(row["Key"], row["UploadId"], row["Initiated"])

    async def ensure_expiry(self, rule_id: str, prefix: str, days: int) -> None:
        """Have the store itself remove objects so old, and uploads unfinished for two days, where it does such a thing.

        Other rules of the bucket stay as they are.
        """
        rule: dict[str, Any] = {
            "ID": rule_id,
            "Filter": {"Prefix": prefix},
            "Status": "Enabled",
            "Expiration": {"Days": days},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
        }
        with s3_errors("BucketLifecycle"):
            try:
                rules = await self._lifecycle_rules()
                if rule not in rules:
                    rules = [*(other for other in rules if other.get("ID") != rule_id), rule]
                    await self._client.put_bucket_lifecycle_configuration(
                        Bucket=self._bucket, LifecycleConfiguration={"Rules": rules}
                    )
            except ClientError as error:
                # It has no such rules, or in another form; our keys may not set them; it wants a Content-MD5.
                log.info("the store takes no lifecycle rule", rule=rule_id, why=str(error))

    async def _lifecycle_rules(self) -> Sequence[Any]:
        try:
            found = await self._client.get_bucket_lifecycle_configuration(Bucket=self._bucket)
        except ClientError as error:
            if error_code(error) == "NoSuchLifecycleConfiguration":
                return []
            raise
        return found.get("Rules", ())

    def object_url(self, key: str) -> str:
        """The object's own address on the public endpoint, unsigned."""
        return f"{self._public_endpoint}/{self._bucket}/{key}"

    async def presign_post(
        self, key: str, content_type: str, most_bytes: int, expires_seconds: int
    ) -> tuple[str, dict[str, str]]:
        """A form that puts one file of this type under this key: its address, and its fields (S3 POST policy).

        Bound: bucket, key, Content-Type, 1 to `most_bytes` bytes, and when it must begin.
        """
        answer = await self._public.generate_presigned_post(
            self._bucket,
            key,
            Fields={"Content-Type": content_type},
            Conditions=[{"Content-Type": content_type}, ["content-length-range", 1, most_bytes]],
            ExpiresIn=expires_seconds,
        )
        return str(answer["url"]), {str(name): str(value) for name, value in answer["fields"].items()}

    async def presign_get(self, key: str, expires_seconds: int, content_type: str, disposition: str) -> str:
        """A signed GET on the public endpoint; empty strings leave the object's own headers."""
        overrides = {"ResponseContentType": content_type, "ResponseContentDisposition": disposition}
        url = await self._public.generate_presigned_url(
            "get_object",
            Params={"Bucket": self._bucket, "Key": key, **{k: v for k, v in overrides.items() if v}},
            ExpiresIn=expires_seconds,
        )
        return str(url)
