"""The gateway's reader of a key server's keys, without waiting for its limits."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from gateway import auth
from gateway.auth import Authenticator
from gateway.settings import GatewaySettings
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from tests.support.http_server import serving
from tests.support.key_server import KeyServer


@pytest.fixture
async def own_server() -> AsyncIterator[KeyServer]:
    server = KeyServer()
    server.add("old")
    async with serving(server.answer) as port:
        server.url = f"http://127.0.0.1:{port}/jwks"
        yield server


async def user_of(
    authenticator: Authenticator, token: str, *, refusal: ErrorReason = ErrorReason.UNAUTHENTICATED
) -> str | None:
    try:
        return await authenticator.user(f"Bearer {token}")
    except ReelwayError as error:
        assert error.reason is refusal
        return None


async def test_keys_are_rotated(own_server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key works at once, an old one until it is no longer published, and no flood reaches the key server."""
    settings = GatewaySettings(auth_jwks_url=own_server.url, auth_jwks_ttl_seconds=1000)
    async with aiohttp.ClientSession() as http:
        reader = Authenticator(settings, http)
        old = own_server.token("old")
        assert [await user_of(reader, old) for _ in range(3)] == ["anna"] * 3
        assert own_server.fetched == 1
        own_server.add("new")
        new = own_server.token("new")
        for number in range(20):
            assert await user_of(reader, own_server.token("old", published_as=f"unknown-{number}")) is None
        assert own_server.fetched == 1, "unknown ids are asked for at most each ten seconds"
        monkeypatch.setattr(auth, "_LEAST_SECONDS_BETWEEN_FETCHES", 0.0)
        assert await user_of(reader, new) == "anna"
        assert await user_of(reader, old) == "anna"
        assert own_server.fetched == 2
        del own_server.keys["old"]
        assert await user_of(reader, own_server.token("new", published_as="unknown")) is None
        assert (await user_of(reader, old), await user_of(reader, new)) == (None, "anna")


async def test_a_key_server_that_is_away(own_server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are fresh go on; too old ones do not, for one may have been revoked, and no token is called bad."""
    away = ErrorReason.SERVICE_UNAVAILABLE
    monkeypatch.setattr(auth, "_LEAST_SECONDS_BETWEEN_FETCHES", 0.0)
    async with aiohttp.ClientSession() as http:
        fresh = Authenticator(GatewaySettings(auth_jwks_url=own_server.url, auth_jwks_ttl_seconds=1000), http)
        stale = Authenticator(GatewaySettings(auth_jwks_url=own_server.url, auth_jwks_ttl_seconds=0), http)
        token = own_server.token("old")
        own_server.broken = True
        assert await user_of(fresh, token, refusal=away) is None
        own_server.broken = False
        assert await user_of(fresh, token) == "anna"
        own_server.broken = True
        assert await user_of(fresh, token) == "anna"
        assert await user_of(stale, token, refusal=away) is None
        # It may be a new one.
        unknown = own_server.token("old", published_as="new")
        assert await user_of(fresh, unknown, refusal=away) is None


async def test_a_key_that_is_published_no_more_is_used_until_it_is_too_old(
    own_server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_LEAST_SECONDS_BETWEEN_FETCHES", 0.0)
    own_server.add("new")
    revoked, kept = own_server.token("old"), own_server.token("new")
    async with aiohttp.ClientSession() as http:
        for seconds, user in ((1000, "anna"), (0, None)):
            settings = GatewaySettings(auth_jwks_url=own_server.url, auth_jwks_ttl_seconds=seconds)
            reader = Authenticator(settings, http)
            assert await user_of(reader, revoked) == "anna"
            key = own_server.keys.pop("old")
            assert (await user_of(reader, revoked), await user_of(reader, kept)) == (user, "anna")
            own_server.keys["old"] = key


async def test_keys_that_were_just_fetched_are_used_however_short_their_time(own_server: KeyServer) -> None:
    async with aiohttp.ClientSession() as http:
        reader = Authenticator(GatewaySettings(auth_jwks_url=own_server.url, auth_jwks_ttl_seconds=0), http)
        token = own_server.token("old")
        assert [await user_of(reader, token) for _ in range(2)] == ["anna"] * 2
