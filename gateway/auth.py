"""Who the bearer token speaks for: `sub` of a JWT checked against a JWKS or a local secret.

Algorithms are pinned by configuration, `exp` and `sub` are required, `aud` and `iss` are checked when
configured. A token that cannot be checked is refused, never taken for none.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, TypeAlias

import aiohttp
import jwt
from jwt.algorithms import AllowedPublicKeys

from gateway.settings import GatewaySettings
from services.common import logs
from services.common.caller import SYSTEM_USER
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

log = logs.get_logger(__name__)

_LEAST_SECONDS_BETWEEN_FETCHES = 10.0
_FETCH_SECONDS = 5.0
_LARGEST_JWKS = 2**20
_LONGEST_TOKEN = 16 * 2**10

_Key: TypeAlias = jwt.PyJWK | AllowedPublicKeys
"""A JWK that names its algorithm, or a key for all that fit it."""


class _Jwks:
    """Keys from a URL: kept for a time, fetched again for a token that none of them fits, one fetch at a time."""

    def __init__(self, url: str, ttl_seconds: float, http: aiohttp.ClientSession) -> None:
        self._url, self._ttl, self._http = url, ttl_seconds, http
        self._keys: list[tuple[str | None, _Key]] = []
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, key_id: str | None) -> _Key | None:
        """The key of this id; None where there is none. SERVICE_UNAVAILABLE where the keys cannot be had.

        Without an id it is the only one; of several a token has to name its own (OpenID Connect Core, 10.1).
        """
        fresh = time.monotonic() - self._fetched_at < self._ttl
        if not fresh or self._find(key_id) is None:
            await self.renew()
            if self._fetched_at < self._tried_at:
                # That failed. An old key may have been revoked and must not go on working; an unknown one may be new.
                # The token is not known to be bad: a client that is told so drops it.
                raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE)
        return self._find(key_id)

    def _find(self, key_id: str | None) -> _Key | None:
        if key_id is None:
            return self._keys[0][1] if len(self._keys) == 1 else None
        # Of several keys with one id the last counts.
        return next((key for each, key in reversed(self._keys) if each == key_id), None)

    async def renew(self) -> None:
        """Have the keys fetched again, unless that was just tried."""
        if self._fetching is None or self._fetching.done():
            if time.monotonic() - self._tried_at < _LEAST_SECONDS_BETWEEN_FETCHES:
                return
            self._tried_at = time.monotonic()
            self._fetching = asyncio.create_task(self._fetch())
        # Whoever asked first may leave; what is fetched is for all.
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            async with self._http.get(self._url, timeout=aiohttp.ClientTimeout(_FETCH_SECONDS)) as answer:
                answer.raise_for_status()
                body = b""
                async for data in answer.content.iter_any():
                    body += data
                    if len(body) > _LARGEST_JWKS:
                        raise ValueError("the answer is too long")
            self._keys = _keys_with_ids(body)
        except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as error:
            log.warning("cannot fetch the token keys", error=f"{type(error).__name__}: {error}")
            return
        self._fetched_at = time.monotonic()


def _keys_with_ids(body: bytes) -> list[tuple[str | None, _Key]]:
    """The public keys of a JWK set that check tokens; an id is optional (RFC 7517, 4.5).

    Raises:
        ValueError, RecursionError: it is no set, or none of its keys is understood.
    """
    told = json.loads(body)
    members = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(members, list):
        raise ValueError("not a JWK set")
    keys = [(member, key) for member in members if (key := _understood(member)) is not None]
    if len(keys) < len(members):
        log.info("token keys that are not understood", count=len(members) - len(keys))
    if not keys:
        raise ValueError("a JWK set without a key that is understood")
    return [
        # PyJWT binds each JWK to one algorithm, for RSA without `alg`, which is optional (RFC 7517, 4.4), to RS256.
        (key.key_id, key if member.get("alg") else key.key)
        for member, key in keys
        # A set may have keys for encryption, too (RFC 7517, 4.2).
        if key.public_key_use in (None, "sig")
        # Only public keys have it. With a private or a shared one in the set, whoever reads that could sign.
        and hasattr(key.key, "verify")
    ]


def _understood(member: Any) -> jwt.PyJWK | None:
    """A key of a set; None for one that is not understood, which costs no other its use (RFC 7517, 5)."""
    try:
        return jwt.PyJWK(member)
    except Exception:  # PyJWT has no common one: `{"kty": "oct"}` is a KeyError, `"alg": "none"` a NotImplementedError.
        return None


class Authenticator:
    """Turns an Authorization header into a user."""

    def __init__(self, settings: GatewaySettings, http: aiohttp.ClientSession) -> None:
        self._secret = settings.auth_jwt_secret.get_secret_value()
        jwks_url = settings.auth_jwks_url
        self._jwks = _Jwks(jwks_url, settings.auth_jwks_ttl_seconds, http) if jwks_url else None
        self._algorithms = list(settings.auth_algorithms) if self._jwks else ["HS256"]
        audience, issuer = settings.auth_audience or None, settings.auth_issuer or None
        # `iat` tells a token's age and is no bound (RFC 7519, 4.1.6); a provider's clock may be a second ahead of ours.
        options = {"require": ["exp", "sub"], "verify_aud": audience is not None, "verify_iat": False}
        self._checks: dict[str, Any] = {"audience": audience, "issuer": issuer, "options": options}

    async def user(self, header: str | None) -> str:
        """`sub` of the token; empty where no header was sent.

        Raises:
            ReelwayError: UNAUTHENTICATED for a header that is not a valid bearer token; SERVICE_UNAVAILABLE where the
                keys to check it with cannot be had.
        """
        try:
            return "" if header is None else await self._user(header)
        except (jwt.PyJWTError, ValueError, TypeError) as error:  # PyJWT's TypeError is for a key of another kind.
            log.info("token refused", why=f"{type(error).__name__}: {error}"[:200])
            raise ReelwayError(ErrorReason.UNAUTHENTICATED) from None

    async def _user(self, header: str) -> str:
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or len(token) > _LONGEST_TOKEN:
            raise ValueError(f"no bearer token of at most {_LONGEST_TOKEN} characters")
        user: str = (await self._claims(token))["sub"]
        # JSON can write half a surrogate pair (RFC 8259, 8.2), which no call could carry on.
        user.encode()
        if not user or len(user) > 255 or user == SYSTEM_USER:
            raise ValueError("the subject is empty, longer than 255 characters, or our own")
        return user

    async def _claims(self, token: str) -> dict[str, Any]:
        key = await self._key(token)
        try:
            return jwt.decode(token, key, algorithms=self._algorithms, **self._checks)
        except (jwt.InvalidSignatureError, TypeError):
            if self._jwks is None or "kid" in jwt.get_unverified_header(token):
                raise
            # Where tokens name no key, only a wrong signature tells that the key was replaced.
            await self._jwks.renew()
            return jwt.decode(token, await self._key(token), algorithms=self._algorithms, **self._checks)

    async def _key(self, token: str) -> _Key | str:
        if self._jwks is not None:
            key = await self._jwks.key(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise jwt.InvalidKeyError("unknown key id")
            return key
        if not self._secret:
            raise jwt.InvalidKeyError("no key is configured")
        return self._secret
