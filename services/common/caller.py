"""Who calls, and in which request: carried in call metadata from the gateway through every service.

The gateway has verified the user; the services judge every call for it. Where SERVICE_TOKEN_SECRET is set a call
must prove that it comes from one of us (see call_token.py); where it is not, on loopback, its word is taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

from services.common.call_token import CallTokens
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

USER_KEY = "reelway-user-bin"
TOKEN_KEY = "authorization"  # noqa: S105 - a name, not a secret
REQUEST_ID_KEY = "reelway-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Caller:
    """One request's origin."""

    user: str = ""
    """`sub` of the verified token; empty: nobody."""
    request_id: str = ""
    """Travels from HTTP to gRPC to S3, and stands in every log line."""

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """As call metadata; a `sub` is any text, and metadata is ASCII, hence UTF-8 in a -bin key."""
        request_id = (REQUEST_ID_KEY, self.request_id)
        if _trust.tokens is not None:
            return request_id, (TOKEN_KEY, f"Bearer {_trust.tokens.make(self.user)}")
        return (request_id, (USER_KEY, self.user.encode())) if self.user else (request_id,)


class _Trust:
    """How this process tells its peers from strangers; set once, by `require_tokens`."""

    tokens: CallTokens | None = None


_trust = _Trust()


def require_tokens(secret: str) -> None:
    """From now on calls carry tokens, and are refused without; an empty secret: callers are believed."""
    _trust.tokens = CallTokens(secret) if secret else None


NOBODY = Caller()
SYSTEM_USER = "urn:reelway:system"
"""In whose name our own loops and workers call; the gateway takes no token with this `sub`."""
_current: ContextVar[Caller] = ContextVar("caller", default=NOBODY)


def current_caller() -> Caller:
    """The caller of the request that this task serves."""
    return _current.get()


def set_caller(caller: Caller) -> None:
    """This task, and what it starts from here on, works for this caller.

    Called where work begins: at a server's edge once a request has said whose it is, by a loop for each piece.
    """
    _current.set(caller)


def may_change(owner: str, user: str) -> bool:
    """Whether `user` may change what `owner` has: one's own, or nobody's."""
    return owner in ("", user)


def require_system() -> None:
    """UNAUTHENTICATED unless one of our own processes calls in its own name."""
    if current_caller().user != SYSTEM_USER:
        raise ReelwayError(ErrorReason.UNAUTHENTICATED)


def caller_for(user: str) -> Caller:
    """`user` under a new request id: for work in its name that no request of its own asked for."""
    return Caller(user, new_request_id())


def system_caller() -> Caller:
    """The system itself under a new request id."""
    return caller_for(SYSTEM_USER)


def new_request_id(offered: str | None = None) -> str:
    """The client's own id where it is harmless in a log line, else a new one."""
    return offered if offered and _REQUEST_ID.fullmatch(offered) else os.urandom(16).hex()


def from_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> Caller:
    """The caller that call metadata names; CALL_TOKEN_REFUSED where it does not prove it and has to."""
    found = dict(metadata or ())
    if _trust.tokens is not None:
        scheme, _, token = str(found.get(TOKEN_KEY, "")).partition(" ")
        user = _trust.tokens.user(token if scheme.lower() == "bearer" else "")
    else:
        claimed = found.get(USER_KEY, b"")
        user = claimed.decode("utf-8", "replace") if isinstance(claimed, bytes) else claimed
    return Caller(user, request_id_of(found.items()))


def request_id_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The id that call metadata names, whoever calls; a new one where there is none."""
    offered = dict(metadata or ()).get(REQUEST_ID_KEY)
    return new_request_id(offered if isinstance(offered, str) else None)
