"""Reads settings from the environment: once, typed, refusing what is wrong by name.

The only module that reads the environment. A process subclasses `Settings`, documents each field with its
unit and default, and calls `load` in its `__main__`.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from services.common.language_tag import primary_language

_UNITS = {
    "": 1,
    "B": 1,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}


def parse_size(value: object) -> object:
    """Bytes from `8388608`, `8MiB` or `8 MB`; ValueError for any other text."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", value.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError("not a size such as 8388608, 8MiB or 8 MB")
    return int(match[1]) * _UNITS[match[2].upper()]


def parse_list(value: object) -> object:
    """A tuple of the comma-separated words of a string."""
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
"""Bytes; `8MiB` and the like are understood."""
Seconds = Annotated[float, Field(ge=0, lt=1e9)]
"""A duration in seconds, below some thirty years: timers take no infinite one."""
AT_ONCE_BYTES = 5 * 2**30
"""Largest object that S3 takes in one PUT, POST or copy."""
LONGEST_SIGNED_SECONDS = 7 * 86_400
"""Longest life of a URL or form that is signed for S3."""
LONGEST_GRPC_SECONDS = 1_900_000
"""Longest time that an option of gRPC tells, which counts milliseconds in 32 bits: 22 days."""
Port = Annotated[int, Field(ge=0, le=65535)]
Words = Annotated[tuple[str, ...], BeforeValidator(parse_list)]
"""A comma list."""


def _check_listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not re.fullmatch(r"\S+", host) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("not host:port")
    return value


def host_and_port(listen: str) -> tuple[str, int]:
    """The halves of a Listen; an IPv6 address without its brackets."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def on_loopback(listen: str) -> bool:
    """Nobody on another machine can call: the host of this Listen is a loopback address or `localhost`."""
    host, _ = host_and_port(listen)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


Listen = Annotated[str, AfterValidator(_check_listen)]
"""host:port to bind; port 0 takes a free one."""
ListenOrNot = Annotated[str, AfterValidator(lambda value: value and _check_listen(value))]
"""host:port to bind; empty: nothing is bound."""


def _check_authority(value: str) -> str:
    """Reading the port of what is no address raises ValueError, with a text that says why."""
    _ = urlsplit(value).port
    return value


HttpUrl = Annotated[str, Field(pattern=r"^(https?://[^\s/]+(/\S*)?)?$"), AfterValidator(_check_authority)]
"""http:// or https:// address; empty: none."""
RedisUrl = Annotated[
    str, Field(pattern=r"^((rediss?://[^\s/?#]+(/\d*)?(\?[^\s@]*)?)|unix://\S+)?$"), AfterValidator(_check_authority)
]
"""redis://, rediss:// or unix:// address with its database; empty: none. A password is percent-encoded: what stands
behind one of / ? # would be no part of the address."""


def _check_authorities(value: str) -> str:
    try:
        ssl.create_default_context(cafile=value)
    except OSError:
        raise ValueError("no file of certificates (PEM)") from None
    return value


AuthoritiesFile = Annotated[str, AfterValidator(lambda value: value and _check_authorities(value))]
"""Path of the certificates (PEM) of authorities; empty: none."""


class _EnvWithFiles(EnvSettingsSource):
    """The environment, in which `NAME_FILE=/path` stands for the file's content as `NAME`."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        env = dict(super()._load_env_vars())
        for name in self._names():
            path = env.get(f"{name}_file")
            if path and not env.get(name):
                try:
                    env[name] = Path(path).read_text().strip()
                except OSError as error:
                    raise SettingsError(f"{name.upper()}_FILE: cannot read the file: {error.strerror}") from None
                except UnicodeDecodeError:
                    raise SettingsError(f"{name.upper()}_FILE: the file is not UTF-8 text") from None
        # An empty value in a manifest means: not set.
        return {name: value for name, value in env.items() if value != ""}

    def _names(self) -> set[str]:
        """Every environment name of the settings, in lower case as the source keeps them."""
        names: set[str] = set()
        for field, info in self.settings_cls.model_fields.items():
            alias = info.validation_alias
            choices = alias.choices if isinstance(alias, AliasChoices) else [alias or field]
            names.update(str(choice).lower() for choice in choices)
        return names


class SettingsError(Exception):
    """A value that cannot be used; its text is one line for the operator."""


class Settings(BaseSettings):
    """Base of every process's settings: frozen, read from the environment alone."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=False, enable_decoding=False)

    log_level: str = Field("INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")
    """Least level that is logged."""
    log_format: str = Field("json", pattern=r"^(json|console)$")
    """`json` for machines, `console` for people."""
    event_loop: str = Field("uvloop", pattern=r"^(uvloop|asyncio)$")
    """Which event loop runs the process."""
    service_token_secret: SecretStr = SecretStr("")
    """Secret of the tokens by which our processes know each other, at least 32 bytes; the same in all of them.
    Empty: whoever can connect is believed, which is for loopback alone."""
    grpc_tls_cert_file: str = ""
    """This process's certificate (PEM), shown to peers in both directions; empty: no TLS between the processes."""
    grpc_tls_key_file: str = ""
    """Its key (PEM)."""
    grpc_tls_ca_file: str = ""
    """The CA that peers' certificates must come from (PEM)."""

    @model_validator(mode="after")
    def _peers_can_be_trusted(self) -> Self:
        secret = self.service_token_secret.get_secret_value()
        if secret and len(secret.encode()) < 32:
            raise ValueError("SERVICE_TOKEN_SECRET: at least 32 bytes are needed (RFC 7518, 3.2)")
        if len({bool(self.grpc_tls_cert_file), bool(self.grpc_tls_key_file), bool(self.grpc_tls_ca_file)}) > 1:
            raise ValueError("GRPC_TLS_CERT_FILE, GRPC_TLS_KEY_FILE, GRPC_TLS_CA_FILE: all three or none")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Constructor arguments, then the environment with its `…_FILE` names; nothing else."""
        return init_settings, _EnvWithFiles(settings_cls)


class ServiceSettings(Settings):
    """What every gRPC process reads."""

    grpc_listen: Listen = "127.0.0.1:0"
    """host:port the server binds; port 0 takes a free one."""
    metrics_listen: ListenOrNot = ""
    """host:port of the Prometheus page; empty: none."""
    drain_seconds: Seconds = 30.0
    """How long a told-to-stop process lets accepted calls finish."""
    drain_notice_seconds: Seconds = 0.5
    """How long it goes on accepting after it has said NOT_SERVING, so that balancers turn away first."""
    max_connection_age_seconds: Seconds = Field(300.0, gt=0, le=LONGEST_GRPC_SECONDS)
    """After this a client connection is closed gently, so that new replicas get traffic; at most 22 days."""
    max_unary_seconds: Seconds = Field(30.0, gt=0)
    """How long a call's one message is waited for; and where a client set no deadline, limit of a unary call, and how
    long a stream waits until it takes more of it."""
    health_listen: ListenOrNot = ""
    """host:port that answers grpc.health.v1 alone and without TLS, for probes that know none; empty: none."""
    fault_point: str = Field("", pattern=r"^([a-z_.]+(@[1-9]\d*)?)?$")
    """Where the process kills itself, for tests of what a crash leaves (fault_points.py); empty: nowhere."""

    @model_validator(mode="after")
    def _strangers_cannot_call(self) -> Self:
        if not on_loopback(self.grpc_listen) and not self.service_token_secret.get_secret_value():
            raise ValueError("SERVICE_TOKEN_SECRET: needed where GRPC_LISTEN is not on loopback")
        return self


class S3Settings(Settings):
    """Where bytes are kept."""

    s3_endpoint_url: HttpUrl = ""
    """The store as the services reach it; empty: AWS of the region."""
    s3_public_endpoint_url: HttpUrl = ""
    """The store as clients reach it, for signed and plain object URLs; empty: the same."""
    s3_bucket: str = Field(validation_alias=AliasChoices("S3_BUCKET", "AWS_BUCKET_NAME"))
    """The one bucket."""
    aws_region: str = Field("us-east-1", validation_alias=AliasChoices("AWS_REGION", "AWS_REGION_NAME"))
    """Region that requests are signed for."""
    aws_access_key_id: str = ""
    """Empty: the default credential chain of the platform."""
    aws_secret_access_key: SecretStr = SecretStr("")
    """Secret of the key above."""
    aws_session_token: SecretStr = SecretStr("")
    """Token of the key above where that is a temporary one."""
    aws_ca_bundle: AuthoritiesFile = ""
    """Authorities that the store's certificate must come from (PEM), where it is no public one."""
    s3_connect_seconds: Seconds = Field(5.0, gt=0)
    """Time-out of connecting to the store."""
    s3_read_seconds: Seconds = Field(30.0, gt=0, le=2_000_000)
    """Time-out between two bytes from the store; at most 23 days: the kernel counts milliseconds in 32 bits."""

    @property
    def endpoint(self) -> str:
        """Internal endpoint without a trailing slash."""
        return (self.s3_endpoint_url or f"https://s3.{self.aws_region}.amazonaws.com").rstrip("/")

    @property
    def public_endpoint(self) -> str:
        """Public endpoint without a trailing slash."""
        return (self.s3_public_endpoint_url or self.endpoint).rstrip("/")


class RedisSettings(Settings):
    """Where state is kept."""

    redis_url: RedisUrl = "redis://127.0.0.1:6379/0"
    """redis://, rediss:// or unix:// address with its database."""
    redis_timeout_seconds: Seconds = Field(5.0, gt=0)
    """Time-out of one command."""


class SizeSettings(Settings):
    """How much may be sent; the gateway, which refuses more at once, and the upload service must agree on it."""

    upload_max_bytes: Size = Field(50 * 2**30, ge=1, le=10_000 * 12 * 2**20)
    """Largest video, in bytes (default 50 GiB, at most 117 GiB: 10 000 parts of 12 MiB, see part_plan.py)."""
    append_max_bytes: Size = Field(2**30, ge=1, le=AT_ONCE_BYTES)
    """Largest chunk that is appended, in bytes (default 1 GiB, at most S3's 5 GiB)."""


class HearingSettings(Settings):
    """What makes and names transcripts; the workers and the catalog must agree on it."""

    transcribe_engine: str = Field("faster-whisper", pattern=r"^[\w.:-]+$")
    """`faster-whisper`, `openai`, `none`, an entry point's name, or `module:Class`."""
    transcribe_model: str = ""
    """faster-whisper: empty takes the packaged weights; or `base`, `tiny.en`, a folder, or a hub name.
    openai: the server's name for it; empty: `whisper-1`."""
    transcribe_language: Annotated[str, AfterValidator(primary_language)] = ""
    """ISO 639-1 of all recordings; empty: detected in each."""


class LibrarySettings(Settings):
    """What may be uploaded with a signed form; the upload service and the workers must agree on it."""

    library_max_bytes: Size = Field(1_000_000_000, ge=1, le=AT_ONCE_BYTES)
    """Largest signed upload, in bytes (S3's own limit of a POST: 5 GiB)."""
    library_types: Words = (
        "video/mp4",
        "video/webm",
        "video/ogg",
        "video/mpeg",
        "video/x-msvideo",
    )
    """Types that a client may sign for, and that its file must be found to be."""


class JoinSettings(Settings):
    """How much is joined to one video; the upload service, which takes no more, and the workers must agree on it."""

    join_max_clips: int = Field(500, ge=1)
    """Most whole clips of one upload."""
    join_max_bytes: Size = Field(AT_ONCE_BYTES, ge=1, le=AT_ONCE_BYTES)
    """Largest upload of several whole clips, in bytes (default 5 GiB, S3's own limit of a copy)."""


class SignedSettings(Settings):
    """How long a signed upload is waited for; the upload service and the catalog must agree on it."""

    library_signed_seconds: Seconds = 86_400.0
    """A signed upload that has not arrived after so long is given up; longer than the slowest client needs."""


S = TypeVar("S", bound=Settings)


def refuse(*lines: str) -> NoReturn:
    """End the process, for its settings cannot be used: status 2, and one line a fault that begins with its name."""
    for line in lines:
        print(f"settings: {line}", file=sys.stderr)  # noqa: T201 - for the operator, who may not read JSON
    raise SystemExit(2)


def load(settings_class: type[S], **given: Any) -> S:
    """The process's settings; exits with status 2 and one line a fault where the environment is wrong.

    What is `given` counts, whatever the environment says of it.
    """
    try:
        return settings_class(**given)
    except SettingsError as error:
        lines = [str(error)]
    except ValidationError as error:
        # A fault of several settings together has no place, and names them itself.
        lines = [
            ": ".join([*(str(part).upper() for part in fault["loc"]), fault["msg"].removeprefix("Value error, ")])
            for fault in error.errors()
        ]
    refuse(*lines)
