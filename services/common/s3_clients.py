"""The SDK's clients of the store: their endpoints and retries, and which of the SDK's habits are switched off."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession

from services.common.aws_session import new_session
from services.common.caller import current_caller
from services.common.impatient_socket import impatient_socket
from services.common.settings import S3Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

REQUEST_ID_HEADER = "x-reelway-request-id"
_RETRIES = 4
# The check has to answer before its caller gives up: four retries may take a quarter of a minute.
_CHECK_RETRIES = 1


class _HttpSession(AIOHTTPSession):  # type: ignore[misc]
    """Follows no redirect, such as to https: ranges could not follow, and the store would pass for ready."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        return SimpleNamespace(request=partial(session.request, allow_redirects=False))


def _client_config(settings: S3Settings, retries: int) -> AioConfig:
    return AioConfig(
        connect_timeout=settings.s3_connect_seconds,
        read_timeout=settings.s3_read_seconds,
        retries={"max_attempts": retries, "mode": "standard"},
        max_pool_connections=64,
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        # The byte path (s3_bytes.py) knows no proxy, so none that the environment names may carry the rest.
        proxies={},
        http_session_cls=_HttpSession,
        connector_args={"socket_factory": partial(impatient_socket, seconds=settings.s3_read_seconds)},
        # Newer defaults add checksums that some S3 servers refuse.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _change_headers(request: Any, **_: Any) -> None:
    # The HTTP client would wait for the store's go-ahead, without an end where the store hangs.
    request.headers.pop("Expect", None)
    if request_id := current_caller().request_id:
        request.headers[REQUEST_ID_HEADER] = request_id


def _stay_in_region(context: Any, **_: Any) -> None:
    # The SDK would go to the region that the store names; ranges, parts and forms would be signed for the other one.
    context.setdefault("s3_redirect", {})["redirected"] = True


@contextlib.asynccontextmanager
async def open_clients(settings: S3Settings) -> AsyncIterator[tuple[S3Client, S3Client, S3Client]]:
    """Three, for as long as the context lasts: for the store, for its public endpoint, and for `S3Objects.check`."""
    session = new_session()
    secret, token = settings.aws_secret_access_key.get_secret_value(), settings.aws_session_token.get_secret_value()

    async with contextlib.AsyncExitStack() as stack:

        async def opened(endpoint: str, retries: int) -> S3Client:
            client: S3Client = await stack.enter_async_context(
                session.create_client(
                    "s3",
                    endpoint_url=endpoint,
                    region_name=settings.aws_region,
                    aws_access_key_id=settings.aws_access_key_id or None,
                    aws_secret_access_key=secret or None,
                    aws_session_token=token or None,
                    verify=settings.aws_ca_bundle or None,
                    config=_client_config(settings, retries),
                )
            )
            # After signing: a proxy between us and the store may well drop or change it.
            client.meta.events.register("before-send.s3", _change_headers)
            client.meta.events.register("before-call.s3", _stay_in_region)
            return client

        yield (
            await opened(settings.endpoint, _RETRIES),
            await opened(settings.public_endpoint, _RETRIES),
            await opened(settings.endpoint, _CHECK_RETRIES),
        )
