"""Proof that a call comes from one of us: a short-lived JWT with the user in it, signed with a shared secret.

Any internal service makes one with any JWT library: HS256, `aud` "reelway", `exp` at most five minutes ahead, `sub`
the verified user or "" for nobody, in the call's metadata as `authorization: Bearer <token>`. `iat` may be there and is
not looked at; leave `nbf` out, because the clock of whoever makes a token may be ahead of ours.
"""

from __future__ import annotations

import time

import jwt

from services.common.bounded_cache import BoundedCache
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

_ALGORITHM, _AUDIENCE = "HS256", "reelway"
_LIFE_SECONDS, _KEPT_SECONDS = 120, 60
_LONGEST_LIFE_SECONDS = 300
_MOST = 10_000


class CallTokens:
    """Makes and checks call tokens; each is made once a minute a user, and checked once."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._made = BoundedCache[str, tuple[float, float, str]](_MOST)
        self._checked = BoundedCache[str, tuple[float, str]](_MOST)

    def make(self, user: str) -> str:
        """A token for calls in the name of `user`."""
        # By both clocks: the wall clock, which expiry goes by, may be set; the other stops while a machine sleeps.
        now, since_start = time.time(), time.monotonic()
        if (made := self._made.get(user)) is not None:
            at, at_since_start, token = made
            if at <= now < at + _KEPT_SECONDS and since_start < at_since_start + _KEPT_SECONDS:
                return token
        claims = {"aud": _AUDIENCE, "sub": user, "exp": int(now) + _LIFE_SECONDS}
        token = jwt.encode(claims, self._secret, _ALGORITHM)
        self._made[user] = now, since_start, token
        return token

    def user(self, token: str) -> str:
        """The user of a token; CALL_TOKEN_REFUSED where it is not ours, or no longer valid."""
        now = time.time()
        if (checked := self._checked.get(token)) is not None and checked[0] > now:
            return checked[1]
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                # `iat` tells a token's age and is no bound (RFC 7519, 4.1.6).
                options={"require": ["exp", "aud", "sub"], "verify_iat": False},
            )
        except jwt.PyJWTError as error:
            raise ReelwayError(ErrorReason.CALL_TOKEN_REFUSED) from error
        expiry, user = float(claims["exp"]), str(claims["sub"])
        if expiry > now + _LONGEST_LIFE_SECONDS:
            raise ReelwayError(ErrorReason.CALL_TOKEN_REFUSED) from ValueError("the token is good for too long")
        self._checked[token] = expiry, user
        return user
