"""Keys of the system on this machine: made once, kept in files that only their owner reads."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from deploy.local.process import StartError
from deploy.local.settings import LocalSettings


@dataclass(frozen=True)
class Keys:
    """What was set in the environment, else what DATA_DIR/secrets holds."""

    access_key: str
    secret_key: str
    session_token: str
    """Of another S3's temporary keys, else empty."""
    jwt_secret: str
    """Empty where tokens are checked with AUTH_JWKS_URL alone."""


def load_keys(settings: LocalSettings) -> Keys:
    """The keys; those that are needed and not there yet are made.

    Raises:
        StartError: DATA_DIR can't be written.
    """
    folder = settings.data_dir / "secrets"

    def key(given: str, name: str) -> str:
        return given or _kept(folder / name)

    foreign_s3 = bool(settings.s3_endpoint_url)
    foreign_tokens = bool(settings.auth_jwks_url)
    access_key, secret_key = settings.aws_access_key_id, settings.aws_secret_access_key.get_secret_value()
    jwt_secret = settings.auth_jwt_secret.get_secret_value()
    try:
        return Keys(
            # Another S3 without keys: the platform's own credentials count there.
            access_key=access_key if foreign_s3 else key(access_key, "s3_access_key"),
            secret_key=secret_key if foreign_s3 else key(secret_key, "s3_secret_key"),
            session_token=settings.aws_session_token.get_secret_value() if foreign_s3 else "",
            jwt_secret=jwt_secret if foreign_tokens else key(jwt_secret, "auth_jwt_secret"),
        )
    except OSError as error:
        raise StartError(f"DATA_DIR {settings.data_dir}: {error.strerror}") from error


def _kept(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists() or not path.read_text().strip():
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(f"{secrets.token_hex(32)}\n")
        # Whole or not at all: a key that was cut off would still be a key.
        fresh.replace(path)
    return path.read_text().strip()
