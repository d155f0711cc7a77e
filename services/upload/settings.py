"""Settings of the upload service."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator

from services.common.settings import (
    LONGEST_SIGNED_SECONDS,
    JoinSettings,
    LibrarySettings,
    ListenOrNot,
    RedisSettings,
    S3Settings,
    Seconds,
    ServiceSettings,
    SignedSettings,
    Size,
    SizeSettings,
    on_loopback,
)
from services.upload.part_plan import MOST_HELD


class UploadSettings(
    ServiceSettings, S3Settings, RedisSettings, JoinSettings, LibrarySettings, SignedSettings, SizeSettings
):
    """What the upload process reads."""

    catalog_target: str = "127.0.0.1:50053"
    """gRPC target of the catalog."""
    ffmpeg_target: str = "127.0.0.1:50054"
    """gRPC target of the ffmpeg service, which joins clips."""
    upload_buffer_bytes: Size = Field(4 * 2**30, ge=MOST_HELD)
    """Bytes that all uploads and appends under way may hold together (default 4 GiB, at least 36 MiB).

    Each counts with its size, at most a part's, 12 MiB: what does not fit then is refused with TOO_MANY_REQUESTS. The
    second and third part of a long one count while they are kept, and wait for room in half of it. The process takes
    more: 150 MiB, and of what is held an eighth (whole files) to 70 % (a burst of appends in large messages).
    """
    upload_idle_seconds: Seconds = Field(90.0, gt=0)
    """An upload without a message for so long is given up; a client of the gateway has 60 s, and that gathers for 5."""
    upload_lease_seconds: Seconds = Field(60.0, gt=0)
    """An upload whose process has not been heard of for so long is swept."""
    upload_sweep_interval_seconds: Seconds = Field(15.0, gt=0)
    """Pause between two looks for what crashed uploads left."""
    upload_orphan_seconds: Seconds = 86_400.0
    """A multipart upload that Redis knows nothing of is aborted once it is this old."""

    append_max_chunks: int = Field(100_000, ge=1)
    """Most chunks of one upload; its size is limited by UPLOAD_MAX_BYTES, of several clips by JOIN_MAX_BYTES."""
    append_max_seconds: Seconds = Field(900.0, gt=0)
    """Longest time one append may take."""
    append_open_per_owner: int = Field(1000, ge=1)
    """Most uploads that one user may have open at once."""
    append_open_of_nobody: int = Field(100_000, ge=1)
    """Most uploads without an owner that may be open at once."""
    append_idle_expiry_seconds: Seconds = Field(7 * 86_400.0, gt=0)
    """An open upload that nothing was appended to for so long is sealed; if no video, deleted (default 7 days).

    Longer than APPEND_MAX_SECONDS and a minute, or a slow chunk may find its upload sealed.
    """
    append_expiry_interval_seconds: Seconds = Field(30.0, gt=0)
    """Pause between two looks for idle uploads."""
    append_orphan_seconds: Seconds = 3600.0
    """A chunk that is part of nothing goes once it is so old; at least as long as an append may take.

    Where the clock of a process is behind that of Redis by as much, its appends all time out.
    """
    append_orphan_interval_seconds: Seconds = Field(900.0, gt=0)
    """Pause between two looks through all chunks."""
    compaction_interval_seconds: Seconds = Field(2.0, gt=0)
    """Pause between two looks for sealed uploads that another replica left."""
    compaction_lease_seconds: Seconds = Field(30.0, gt=0)
    """Who compacts and has not been heard of for so long is replaced."""

    sign_seconds: int = Field(60, ge=1, le=LONGEST_SIGNED_SECONDS)
    """How long after it was signed an upload may begin; at most LIBRARY_SIGNED_SECONDS, when it is given up."""
    library_signed_per_owner: int = Field(1000, ge=1)
    """Most signed uploads of one user that have not arrived."""
    ingest_interval_seconds: Seconds = Field(2.0, gt=0)
    """Pause between two looks at the store for signed uploads that arrived; a second more for each thousand there."""
    ingest_events_listen: ListenOrNot = ""
    """host:port that takes S3 event notifications by HTTP POST, as AWS shapes them; empty: none."""
    ingest_events_token: SecretStr = SecretStr("")
    """Bearer token that a notification must carry; needed where INGEST_EVENTS_LISTEN is not on loopback."""

    @model_validator(mode="after")
    def _strangers_cannot_notify(self) -> Self:
        listen = self.ingest_events_listen
        if listen and not on_loopback(listen) and not self.ingest_events_token.get_secret_value():
            raise ValueError("INGEST_EVENTS_TOKEN: needed where INGEST_EVENTS_LISTEN is not on loopback")
        return self

    @model_validator(mode="after")
    def _forms_are_not_valid_when_given_up(self) -> Self:
        if self.sign_seconds > self.library_signed_seconds:
            raise ValueError("SIGN_SECONDS: must be at most LIBRARY_SIGNED_SECONDS")
        return self

    @model_validator(mode="after")
    def _orphans_are_older_than_appends(self) -> UploadSettings:
        if self.append_orphan_seconds < self.append_max_seconds:
            raise ValueError("APPEND_ORPHAN_SECONDS: must be at least APPEND_MAX_SECONDS")
        return self
