"""What `make run` reads from the environment. All else in it reaches the services as it is."""

import os
import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, model_validator

from services.common.settings import HttpUrl, Port, RedisUrl, Seconds, Settings


def _parse_ports(value: object) -> object:
    """A range from `20000-32767`; anything else is left for pydantic to refuse."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d{1,5})-(\d{1,5})", value.strip())):
        return range(int(match[1]), int(match[2]) + 1)
    return value


def _check_ports(value: range) -> range:
    if not value or value.start < 1024 or value.stop > 2**16:
        raise ValueError("not FIRST-LAST of 1024 to 65535")
    return value


PortRange = Annotated[range, BeforeValidator(_parse_ports), AfterValidator(_check_ports)]


class LocalSettings(Settings):
    """Each part that is not named here by its address is an embedded one."""

    log_format: str = Field("console", pattern=r"^(json|console)$")
    """People read along: `console`, unlike elsewhere."""
    data_dir: Path = Path(".data")
    """Everything that is kept: objects, state, keys, logs of the embedded servers."""
    log_dir: Path | None = None
    """Folder that gets a log file of each service; not set: their lines go to the terminal."""
    host: str = "127.0.0.1"
    """Address that the gateway binds."""
    port: Port = 8000
    """Port of the gateway; 0: a free one."""
    gateways: int = Field(default_factory=lambda: min(len(os.sched_getaffinity(0)), 4), ge=1, le=64)
    """How many gateway processes listen on that port; by default one for each core, up to four."""
    free_ports: PortRange = range(20_000, 32_768)
    """The ports on loopback that all other processes take theirs from: `20000-32767`."""
    redis_url: RedisUrl = ""
    """Empty: an embedded Redis."""
    s3_endpoint_url: str = Field("", pattern=r"^(https?://[^\s/]+/?)?$")
    """Empty: an embedded S3."""
    s3_public_endpoint_url: str = Field("", pattern=r"^(https?://[^\s/]+/?)?$")
    """Empty: the same as S3_ENDPOINT_URL."""
    s3_bucket: str = Field(
        "reelway", validation_alias=AliasChoices("S3_BUCKET", "AWS_BUCKET_NAME"), pattern=r"^[a-z0-9][a-z0-9.-]{2,62}$"
    )
    """The one bucket; made where S3 is the embedded one."""
    aws_region: str = Field("us-east-1", validation_alias=AliasChoices("AWS_REGION", "AWS_REGION_NAME"))
    """Region that requests are signed for."""
    aws_access_key_id: str = ""
    """Empty: generated, where S3 is the embedded one."""
    aws_secret_access_key: SecretStr = SecretStr("")
    """Secret of the key above."""
    aws_session_token: SecretStr = SecretStr("")
    """Token of the key above where that is a temporary one of another S3."""
    auth_jwt_secret: SecretStr = SecretStr("")
    """HS256 secret of bearer tokens; empty: generated, unless AUTH_JWKS_URL is set."""
    auth_jwks_url: HttpUrl = ""
    """Where the keys of bearer tokens are published."""
    auth_audience: str = ""
    """`aud` of the tokens of `make token`, as the gateway wants it; empty: none."""
    auth_issuer: str = ""
    """`iss` of those."""
    ffmpeg_bin: str = ""
    """As ffmpeg's processes read it; empty: the one on PATH, else the wheel's."""
    ffprobe_bin: str = ""
    """The same of ffprobe; empty: beside that ffmpeg."""
    isolation: str = Field("strict", pattern=r"^(strict|best-effort)$")
    """As ffmpeg's processes read it: what a layer that this kernel lacks means."""
    run_transcripts: bool = True
    """Whether recordings are transcribed on this machine; False leaves the engine out, which is large."""
    drain_seconds: Seconds = 5.0
    """How long a process that is told to stop lets accepted requests finish."""
    token_days: float = Field(30.0, gt=0, le=36_500)
    """Life of the tokens of `make token`, in days."""

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> Self:
        if bool(self.aws_access_key_id) != bool(self.aws_secret_access_key.get_secret_value()):
            raise ValueError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: set both or neither")
        return self
