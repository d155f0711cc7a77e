"""What the ffmpeg front and its workers read from the environment."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from services.common.settings import (
    AT_ONCE_BYTES,
    LONGEST_SIGNED_SECONDS,
    JoinSettings,
    LibrarySettings,
    RedisSettings,
    S3Settings,
    Seconds,
    ServiceSettings,
    Size,
    Words,
)
from services.ffmpeg.addresses import AddressPolicy
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.limits import JoinLimits, Limits
from services.ffmpeg.paths import PLAIN_PATH, may_be_planted
from services.ffmpeg.transcription.settings import TranscribeSettings

_CORES = len(os.sched_getaffinity(0))


class JobSettings(ServiceSettings, RedisSettings, S3Settings):
    """What front and workers share; give both the same values."""

    job_lease_seconds: Seconds = Field(60.0, gt=0)
    """A worker that has not renewed a job for so long has lost it."""
    job_tries: int = Field(3, ge=1)
    """Tries in all when a fault may pass (an input's server, a killed ffmpeg)."""
    job_backoff_seconds: Seconds = 5.0
    """Pause before the second try; doubles each time."""
    job_outage_seconds: Seconds = 6 * 3600.0
    """From a job's first attempt that an outage ended (a store or a service of ours away, a worker's disk full), such
    attempts are no tries for so long; their pauses double up to five minutes."""
    job_lost_workers: int = Field(4, ge=1)
    """A job is failed as poison when so many workers vanished while they ran it."""
    job_keep_seconds: Seconds = 7 * 86400.0
    """How long a completed job's record is kept; its outputs stay OUTPUT_URL_SECONDS longer, for its last URLs."""
    job_keep_failed_seconds: Seconds = 30 * 86400.0
    """How long the record of a failed or cancelled job is kept."""
    job_keep_per_owner: int = Field(10_000, ge=1)
    """Records of ended jobs kept for one owner, the system itself excepted; of more, those that ended first go,
    whatever their age. Clients without a user are one owner. Each takes 60 KiB of Redis at most, a usual one 2.5."""
    job_queued_per_owner: int = Field(10_000, ge=1)
    """Jobs one owner may have waiting; more are refused with TOO_MANY_REQUESTS."""
    job_running_per_owner: int = Field(0, ge=0)
    """Jobs one owner may have running at once, the system itself excepted; 0: no limit but the fair share."""
    ffmpeg_bin: str = ""
    """Name, path or folder of ffmpeg; empty: the one on PATH."""
    ffprobe_bin: str = ""
    """The same of ffprobe; empty: beside FFMPEG_BIN, else the one on PATH."""
    isolation: str = Field("strict", pattern=r"^(strict|best-effort)$")
    """`strict`: without every layer of isolation no command is taken. `best-effort`: with whatever there is."""
    ffmpeg_input_allow: Words = ()
    """Exact address:port pairs that inputs may be fetched from although they are not public; for development."""
    command_wall_seconds: Seconds = Field(3600.0, gt=0)
    """Longest run of one command."""
    command_cpu_seconds: int = Field(7200, ge=1)
    """CPU time of one command, all threads together."""
    command_memory_bytes: Size = Field(3 * 2**30, ge=1)
    """Resident memory of one command."""
    command_input_bytes: Size = Field(5 * 2**30, ge=1)
    """Largest input, and all inputs of a command together."""
    command_output_bytes: Size = Field(5 * 2**30, ge=1)
    """Largest output, and all outputs of a command together."""
    command_threads: int = Field(4, ge=1, le=64)
    """Threads of each codec and filter graph of a command."""
    work_dir: Path = Path(tempfile.gettempdir()) / f"reelway-work-{os.getuid()}"
    """Folder for the files of running jobs; may be shared by several processes of one machine. One that another user
    may have put there, in a folder such as /tmp, is refused."""
    output_url_seconds: int = Field(LONGEST_SIGNED_SECONDS, ge=1, le=LONGEST_SIGNED_SECONDS)
    """How long the URL of an output works, from the answer that carries it (default 7 days, S3's limit)."""

    @field_validator("ffmpeg_input_allow")
    @classmethod
    def _are_pairs(cls, pairs: tuple[str, ...]) -> tuple[str, ...]:
        AddressPolicy.parse(pairs)
        return pairs

    @field_validator("work_dir")
    @classmethod
    def _is_plain(cls, folder: Path) -> Path:
        if not PLAIN_PATH.fullmatch(str(folder.resolve())):
            raise ValueError("only letters, digits, '_', '-', '.' and '/'")
        # Looked at before it is resolved: what dead workers left is removed from the folder that it leads to.
        try:
            if folder.is_symlink() and may_be_planted(folder):
                raise ValueError("a link that belongs to another user")
        except OSError as error:
            raise ValueError(error.strerror) from error
        return folder.resolve()

    @property
    def addresses(self) -> AddressPolicy:
        """Where inputs may come from."""
        return AddressPolicy.parse(self.ffmpeg_input_allow)

    @property
    def limits(self) -> Limits:
        """What one command may use."""
        return Limits(
            wall_seconds=self.command_wall_seconds,
            cpu_seconds=self.command_cpu_seconds,
            memory_bytes=self.command_memory_bytes,
            input_bytes=self.command_input_bytes,
            output_bytes=self.command_output_bytes,
            threads=self.command_threads,
        )

    @property
    def policy(self) -> JobPolicy:
        """The same, as the job store takes it."""
        return JobPolicy(
            lease_seconds=self.job_lease_seconds,
            tries_max=self.job_tries,
            backoff_seconds=self.job_backoff_seconds,
            outage_seconds=self.job_outage_seconds,
            lost_workers_max=self.job_lost_workers,
            keep_completed_seconds=self.job_keep_seconds,
            keep_failed_seconds=self.job_keep_failed_seconds,
            kept_max=self.job_keep_per_owner,
            queued_max=self.job_queued_per_owner,
            running_max=self.job_running_per_owner,
        )


class FrontSettings(JobSettings):
    """The gRPC front."""

    sweep_seconds: Seconds = Field(300.0, gt=0)
    """Pause between two sweeps of finished records and left-over objects."""


class WorkerSettings(JobSettings, JoinSettings, LibrarySettings, TranscribeSettings):
    """A worker."""

    event_loop: str = Field("asyncio", pattern=r"^(uvloop|asyncio)$")
    """asyncio starts children by vfork(2), which neither copies page tables nor stops at gRPC's fork handlers."""
    drain_notice_seconds: Seconds = 0.0
    """No balancer looks at a worker: it drains at once."""
    job_renew_seconds: Seconds = Field(10.0, gt=0)
    """Pause between two renewals of a lease."""
    job_stalled_check_seconds: Seconds = Field(15.0, gt=0)
    """Pause between two looks for jobs whose worker has gone."""
    job_kill_seconds: Seconds = Field(15.0, gt=0, le=19)
    """A handler that has not stopped so long after it was told to ends the process; at most 19, for a process that
    drains has no more time."""
    upload_target: str = "127.0.0.1:50051"
    """gRPC target of the upload service, which knows where the clips to be joined are."""
    stream_target: str = "127.0.0.1:50052"
    """gRPC target of the stream service, for `video://` inputs."""
    catalog_target: str = "127.0.0.1:50053"
    """gRPC target of the catalog, which is told what a new video is."""
    slots_command: int = Field(_CORES, ge=0)
    """Client-written commands at once; 0: this worker takes none. Default: one a core."""
    slots_probe: int = Field(2, ge=0)
    """Probes at once."""
    slots_join: int = Field(1, ge=0)
    """Joins at once."""
    slots_transcribe: int = Field(max(1, _CORES // 2), ge=0)
    """Transcriptions at once; default: one for two cores."""

    @property
    def join_limits(self) -> JoinLimits:
        """What one join may use, which can write as much as it takes, and as S3 copies to its place: 5 GiB."""
        return replace(
            JoinLimits(**vars(self.limits)),
            input_bytes=self.join_max_bytes,
            input_clips=self.join_max_clips,
            output_bytes=min(max(self.command_output_bytes, self.join_max_bytes), AT_ONCE_BYTES),
        )

    @property
    def slots(self) -> dict[JobKind, int]:
        """Slots of each kind."""
        return {
            JobKind.COMMAND: self.slots_command,
            JobKind.PROBE: self.slots_probe,
            JobKind.JOIN: self.slots_join,
            JobKind.TRANSCRIBE: self.slots_transcribe,
        }

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Self:
        if self.job_renew_seconds * 3 > self.job_lease_seconds:
            raise ValueError("JOB_RENEW_SECONDS must be at most a third of JOB_LEASE_SECONDS")
        return self
