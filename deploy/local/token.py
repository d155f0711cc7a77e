"""Prints a development token: `python -m deploy.local.token UUID`."""

import sys
import time
from uuid import UUID

import jwt

from deploy.local.keys import load_keys
from deploy.local.process import StartError
from deploy.local.settings import LocalSettings
from services.common.settings import load

USAGE = "token: say for whom: make token USER=5f0c1f6e-7d0e-4a8e-9d58-0b6f1f7f2a11 (any uuid is a user)"


def development_token(secret: str, user: UUID, days: float = 30.0, audience: str = "", issuer: str = "") -> str:
    """An HS256 token of `user` that is good for `days`; `aud` and `iss` only where they are not empty."""
    now = int(time.time())
    claims = {"sub": str(user), "iat": now, "exp": now + int(days * 86_400)}
    claims |= {name: value for name, value in (("aud", audience), ("iss", issuer)) if value}
    return jwt.encode(claims, secret, algorithm="HS256")


def main(arguments: list[str]) -> int:
    """Prints the token of the user named by the only argument; 2 and one line where there is none to print."""
    if len(arguments) != 1 or not arguments[0]:
        return _refuse(USAGE)
    try:
        user = UUID(arguments[0])
    except ValueError:
        return _refuse(f"token: {arguments[0]!r} is no uuid; {USAGE.removeprefix('token: ')}")
    settings = load(LocalSettings)
    try:
        secret = load_keys(settings).jwt_secret
    except StartError as error:
        return _refuse(f"token: {error}")
    if not secret:
        return _refuse("token: AUTH_JWKS_URL is set: whoever publishes those keys makes the tokens")
    print(development_token(secret, user, settings.token_days, settings.auth_audience, settings.auth_issuer))
    return 0


def _refuse(why: str) -> int:
    print(why, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
