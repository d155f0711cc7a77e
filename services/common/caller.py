"""Who calls, and in which request: carried in call metadata from the gateway through every service.

The gateway has verified the user; the services judge every call for it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

USER_KEY = "reelway-user"
REQUEST_ID_KEY = "reelway-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Caller:
    """One request's origin."""

    user: str = ""
    """`sub` of the verified token; empty: nobody."""
    request_id: str = ""
    """Travels from HTTP to gRPC to S3, and stands in every log line."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """As call metadata; a `sub` is any text, and metadata is ASCII, hence UTF-8 in a -bin key."""
        pairs: list[tuple[str, str]] = [(REQUEST_ID_KEY, self.request_id)]
        if self.user:
            pairs.append((f"{USER_KEY}-bin", self.user.encode()))  # type: ignore[arg-type]
        return tuple(pairs)


NOBODY = Caller()
_current: ContextVar[Caller] = ContextVar("caller", default=NOBODY)


def current_caller() -> Caller:
    """The caller of the request that this task serves."""
    return _current.get()


def set_caller(caller: Caller) -> None:
    """Called once a request, by the server's edge."""
    _current.set(caller)


def new_request_id(offered: str | None = None) -> str:
    """The client's own id where it is harmless in a log line, else a new one."""
    return offered if offered and _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex


def from_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> Caller:
    """The caller that call metadata names."""
    found = dict(metadata or ())
    user = found.get(f"{USER_KEY}-bin", b"")
    request_id = found.get(REQUEST_ID_KEY, "")
    return Caller(
        user=user.decode("utf-8", "replace") if isinstance(user, bytes) else user,
        request_id=new_request_id(request_id if isinstance(request_id, str) else None),
    )
