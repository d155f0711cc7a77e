"""Settings of the gateway."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from gateway.held_bodies import LARGEST
from services.common.settings import (
    LONGEST_SIGNED_SECONDS,
    HttpUrl,
    ListenOrNot,
    Port,
    Seconds,
    Size,
    SizeSettings,
    parse_list,
)

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA"]
"""Those with a public key, which a JWKS can tell everybody."""
Origin = Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^\s/*A-Z]+)$")]
"""`https://app.example.com`: no path, not even a slash, and no part left open."""


class GatewaySettings(SizeSettings):
    """What the gateway process reads."""

    host: str = "127.0.0.1"
    """Address it listens on."""
    port: Port = 8000
    """Port it listens on."""
    own_listen: ListenOrNot = ""
    """host:port of this process alone, where several gateways of a machine listen on HOST:PORT: the kernel gives each
    new connection to one of them (SO_REUSEPORT), and probes must reach a certain one. Empty: PORT is not shared."""
    metrics_listen: ListenOrNot = ""
    """host:port of the Prometheus page; empty: none."""
    drain_seconds: Seconds = 30.0
    """How long a told-to-stop gateway lets accepted requests finish."""
    drain_notice_seconds: Seconds = 0.5
    """How long it goes on accepting after it has said that it is not ready."""

    upload_target: str = "127.0.0.1:50051"
    """gRPC target of the upload service; a comma list of host:port names several replicas."""
    stream_target: str = "127.0.0.1:50052"
    """gRPC target of the stream service."""
    catalog_target: str = "127.0.0.1:50053"
    """gRPC target of the catalog."""
    ffmpeg_target: str = "127.0.0.1:50054"
    """gRPC target of the ffmpeg service."""

    auth_jwt_secret: SecretStr = SecretStr("")
    """Secret of HS256 tokens, for local use; at least 32 bytes (RFC 7518, 3.2)."""
    auth_jwks_url: HttpUrl = ""
    """Where the keys of tokens are (OIDC); not together with AUTH_JWT_SECRET."""
    auth_algorithms: Annotated[tuple[Algorithm, ...], BeforeValidator(parse_list), Field(min_length=1)] = (
        "RS256",
        "ES256",
    )
    """Algorithms accepted with AUTH_JWKS_URL; none other, whatever a token says."""
    auth_audience: str = ""
    """`aud` that a token must have; empty: not looked at."""
    auth_issuer: str = ""
    """`iss` that a token must have; empty: not looked at."""
    auth_jwks_ttl_seconds: Seconds = 300.0
    """How long fetched keys are used; a token that none fits has them fetched again at once, at most each 10 s."""
    anonymous_access: str = Field("full", pattern=r"^(full|read|deny)$")
    """What a request without a token may do in the dialects whose documents know no auth."""

    first_request_seconds: Seconds = Field(15.0, gt=0)
    """How long a new connection may take to bring the headers of its first request."""
    next_request_seconds: Seconds = 75.0
    """How long a connection is kept open for a further request."""
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(parse_list)] = ("*",)
    """Origins of pages that may call, as browsers write them; `*`: any."""
    held_body_bytes: Size = Field(128 * 2**20, ge=4 * LARGEST)
    """Memory for request bodies that must be held whole, all together: JSON, small forms, and chunks sent before their
    `video_id`; beyond it 429. One user may hold half of it, and so may all clients without a token together."""
    unread_answer_bytes: Size = Field(4 * 2**30, ge=64 * 2**20)
    """Memory for answers that their clients do not take (default 4 GiB); each such connection counts with 3 MiB.

    Where they need more than half of it, the slowest is cut off if it was slow for a minute; where they need all, in
    any case.
    """
    public_url: HttpUrl = ""
    """Where clients reach this API, for the absolute addresses in answers; empty: as the request's Host says."""
    upload_max_seconds: Seconds = Field(86_400.0, gt=0)
    """Longest time one upload may take."""
    playback_mode: str = Field("proxy", pattern=r"^(proxy|redirect)$")
    """`redirect` answers stream and download with a 307 to a presigned URL of the store, where clients reach it."""
    redirect_seconds: int = Field(3600, ge=1, le=LONGEST_SIGNED_SECONDS)
    """How long such a URL works, at most S3's 7 days."""
    block_cache_bytes: Size = 256 * 2**20
    """Memory for blocks of videos that are read again and again; 0: none."""
    access_ttl_seconds: Seconds = Field(1.0, le=2.0)
    """How long the gateway relies on the stream service's word that a user may read a video."""

    @model_validator(mode="after")
    def _one_key_source(self) -> GatewaySettings:
        secret = self.auth_jwt_secret.get_secret_value()
        if secret and self.auth_jwks_url:
            raise ValueError("AUTH_JWT_SECRET and AUTH_JWKS_URL exclude each other")
        if secret and len(secret.encode()) < 32:
            raise ValueError("AUTH_JWT_SECRET: at least 32 bytes are needed (RFC 7518, 3.2)")
        return self
