"""The store on the byte path: ranged GETs, and PUTs, over lean HTTP clients, signed by botocore's signer.

A fifth of an SDK call's CPU; everything else is in s3_objects.py. Payloads are unsigned (the transport is
trusted or is TLS, and whole files are summed by SHA-256 above), so that nothing is read twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from urllib.parse import quote, urlsplit

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError
from yarl import URL

from services.common import logs
from services.common.aws_session import new_session
from services.common.backoff import Backoff
from services.common.bounded_cache import BoundedCache
from services.common.byte_messages import Buffer
from services.common.caller import current_caller
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.impatient_socket import impatient_socket
from services.common.range_client import RangeClient
from services.common.s3_clients import REQUEST_ID_HEADER
from services.common.s3_errors import s3_errors
from services.common.settings import S3Settings

log = logs.get_logger(__name__)

_SIGNATURE_SECONDS = 60.0
_SIGNATURES = 10_000
# The transport copies what the socket does not take at once: of a whole chunk that would be as much again.
_WRITE = 2**18
_TRANSIENT = (aiohttp.ClientError, TimeoutError, OSError)
# A reader asks again, and may ask another replica; a part that is not written ends an upload of hours, so that it is
# tried for five seconds.
_READS, _WRITES = Backoff(), Backoff(attempts=8)


class _UnsignedPayload(S3SigV4Auth):  # type: ignore[misc]
    def payload(self, request: AWSRequest) -> str:
        return "UNSIGNED-PAYLOAD"


class _Refused(Exception):
    """An answer other than success; retried only where the server is at fault, or bytes came too late."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status} {body[:200]}")
        # No other 404: a proxy in front of the store answers so of everything while it is set up.
        self.missing = status == 416 or "<Code>NoSuchKey<" in body
        # Where no bytes came for 20 s S3 answers 400, and a proxy in front of it 408.
        self.transient = status >= 500 or status in {408, 429} or "<Code>RequestTimeout<" in body


class S3Bytes:
    """Reads ranges, and writes objects and parts, of one bucket."""

    def __init__(self, http: aiohttp.ClientSession, settings: S3Settings, trusted: ssl.SSLContext | None) -> None:
        self._http, self._region = http, settings.aws_region
        self._base = f"{settings.endpoint}/{settings.s3_bucket}/"
        origin = URL(settings.endpoint).origin()
        self._path, self._host = urlsplit(self._base).path, origin.host_port_subcomponent
        self._ranges = RangeClient(origin, settings.s3_connect_seconds, settings.s3_read_seconds, trusted)
        self._static: ReadOnlyCredentials | None = None
        if settings.aws_access_key_id:
            secret = settings.aws_secret_access_key.get_secret_value()
            token = settings.aws_session_token.get_secret_value() or None
            self._static = Credentials(settings.aws_access_key_id, secret, token).get_frozen_credentials()
        self._session = new_session()
        self._fetched: tuple[float, ReadOnlyCredentials] | None = None
        self._signatures = BoundedCache[str, tuple[float, dict[str, str]]](_SIGNATURES)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: S3Settings) -> AsyncIterator[S3Bytes]:
        """A client with its own connections for as long as the context lasts."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=settings.s3_connect_seconds, sock_read=settings.s3_read_seconds
        )
        trusted = _trusting(settings.aws_ca_bundle) if settings.aws_ca_bundle else None
        connector = aiohttp.TCPConnector(
            limit=0,
            ttl_dns_cache=30,
            ssl=trusted or True,
            socket_factory=partial(impatient_socket, seconds=settings.s3_read_seconds),
        )
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        ) as http:
            store = cls(http, settings, trusted)
            try:
                yield store
            finally:
                store._ranges.close()

    async def _credentials(self) -> ReadOnlyCredentials:
        if self._static is not None:
            return self._static
        # Credentials of a role expire; the session refreshes them, asked at most once a minute.
        if self._fetched is None or time.monotonic() - self._fetched[0] > 60:
            with s3_errors("credentials"):
                found = await self._session.get_credentials()
                if found is None:
                    raise NoCredentialsError
                self._fetched = (time.monotonic(), await found.get_frozen_credentials())
        return self._fetched[1]

    async def _sign(self, method: str, url: str, headers: dict[str, str]) -> dict[str, str]:
        request = AWSRequest(method=method, url=url, headers=headers)
        _UnsignedPayload(await self._credentials(), "s3", self._region).add_auth(request)
        signed = dict(request.headers)
        # After signing: a proxy between us and the store may well drop or change it.
        signed[REQUEST_ID_HEADER] = current_caller().request_id
        return signed

    async def _signed_get(self, url: str) -> dict[str, str]:
        """Signed headers of a GET, used again for a minute: a range need not be signed, and S3 allows 15 minutes."""
        now = time.monotonic()
        known = self._signatures.get(url)
        if known is None or known[0] < now:
            known = self._signatures[url] = (now + _SIGNATURE_SECONDS, await self._sign("GET", url, {}))
        return known[1] | {REQUEST_ID_HEADER: current_caller().request_id}

    async def read(self, key: str, offset: int, length: int) -> AsyncIterator[memoryview]:
        """Exactly `length` bytes from `offset`, in buffers that nobody else has; resumes where a connection broke.

        Raises:
            ReelwayError: VIDEO_NOT_FOUND where there is no such object or range; STORE_UNAVAILABLE when the
                store failed four times without a byte between.
        """
        end, attempt = offset + length, 0
        while offset < end:
            attempt += 1
            try:
                async for chunk in self._read_once(key, offset, end):
                    offset, attempt = offset + len(chunk), 0
                    yield chunk
            except (*_TRANSIENT, _Refused) as error:
                if isinstance(error, _Refused) and error.missing:
                    raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND) from error
                await self._pause_or_give_up("GET", attempt, error, _READS)

    async def _read_once(self, key: str, offset: int, end: int) -> AsyncIterator[memoryview]:
        wanted = f"bytes {offset}-{end - 1}/".encode()
        async with self._ranges.get(await self._range_request(key, offset, end), end - offset) as answer:
            head = answer.head
            if head.status >= 300:
                raise _Refused(head.status, (await answer.error_body()).decode("utf-8", "replace"))
            given = head.headers.get(b"content-range", b"")
            if head.status != 206 or head.length != end - offset or not given.startswith(wanted):
                # Another range than was asked for must never reach a viewer, nor its bytes the log.
                raise _Refused(
                    502, f"for an answer {head.status} of {head.length} bytes, range {given.decode('latin-1')!r}"
                )
            async for piece in answer.pieces():
                yield piece

    async def _range_request(self, key: str, offset: int, end: int) -> bytes:
        headers = await self._signed_get(self._base + key) | {"Range": f"bytes={offset}-{end - 1}"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if lines.count("\n") != len(headers):
            raise ReelwayError(ErrorReason.INTERNAL)
        return f"GET {self._path}{key} HTTP/1.1\r\nHost: {self._host}\r\n{lines}\r\n".encode("latin-1")

    async def put_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        length: int,
        body: Callable[[], AsyncIterator[Buffer]],
    ) -> str:
        """Write part `number` of `length` bytes, streamed from `body()`; its ETag. See `put`."""
        return await self.put(f"{key}?partNumber={number}&uploadId={quote(upload_id, safe='')}", "", length, body)

    async def put(
        self, key: str, content_type: str, length: int, body: Callable[[], AsyncIterator[Buffer]] | Buffer
    ) -> str:
        """Write an object of `length` bytes, streamed from `body()` or given whole; its ETag.

        `body` is called once a try. An exception that it raises itself ends the request and comes out unchanged;
        the object is whole or not there.

        Raises:
            ReelwayError: STORE_UNAVAILABLE when the store refused it, or failed eight times.
        """
        url, attempt = self._base + key, 0
        failure: Exception | None = None

        async def guarded() -> AsyncIterator[Buffer]:
            # The HTTP client would hide the body's own exception behind one of its connection errors.
            nonlocal failure
            try:
                async for piece in _whole(body) if isinstance(body, Buffer) else body():
                    for start in range(0, len(piece), _WRITE):
                        yield piece[start : start + _WRITE]
            except Exception as error:
                failure = error
                raise

        while True:
            attempt += 1
            data = body if isinstance(body, Buffer) and len(body) <= _WRITE else guarded()
            try:
                return await self._put_once(url, content_type, length, data)
            except (*_TRANSIENT, _Refused) as error:
                if failure is not None:
                    raise failure from None
                await self._pause_or_give_up("PUT", attempt, error, _WRITES)

    async def _put_once(self, url: str, content_type: str, length: int, data: Buffer | AsyncIterator[Buffer]) -> str:
        headers = {"Content-Length": str(length)}
        if content_type:
            headers["Content-Type"] = content_type
        headers = await self._sign("PUT", url, headers)
        put = self._http.put(URL(url, encoded=True), headers=headers, data=data, allow_redirects=False)
        async with put as response:
            if response.status != 200:
                said = await response.content.read(2048)
                raise _Refused(response.status, said.decode("utf-8", "replace"))
            await response.read()
            return response.headers["ETag"]

    @staticmethod
    async def _pause_or_give_up(operation: str, attempt: int, error: Exception, backoff: Backoff) -> None:
        final = isinstance(error, _Refused) and not error.transient
        if final or attempt >= backoff.attempts:
            log.warning("store failed", operation=operation, error=f"{type(error).__name__}: {error}"[:500])
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE) from error
        await asyncio.sleep(backoff.pause(max(attempt, 1)))


async def _whole(body: Buffer) -> AsyncIterator[Buffer]:
    yield body


def _trusting(authorities: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authorities)
    # As the SDK does, so that both take the same certificates: Python 3.13 refuses those of many private authorities.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
