"""Tables, tokens and addresses of the job service."""

import os
import runpy
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.page_token import decode_place, encode_place
from services.common.server import TIDY_SECONDS
from services.ffmpeg import settings
from services.ffmpeg.addresses import video_id_of
from services.ffmpeg.job import Job, Progress
from services.ffmpeg.job_state import TRANSITIONS, JobKind, JobState, Priority
from services.ffmpeg.outputs import type_of
from services.ffmpeg.plan import Plan
from services.ffmpeg.settings import FrontSettings, WorkerSettings
from services.ffmpeg.task_messages import task_message
from services.ffmpeg.worker.__main__ import handlers

ID = "0f318186-532e-4c93-80f4-b0a92e029fee"


def test_the_table_knows_every_state_and_finished_ones_lead_nowhere() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert {state for state in JobState if state.finished} == {"completed", "failed", "cancelled"}
    assert JobState.RUNNING in TRANSITIONS[JobState.PENDING]


def test_every_kind_has_slots() -> None:
    assert set(WorkerSettings(S3_BUCKET="b").slots) == set(JobKind)


@pytest.mark.parametrize(("cores", "commands", "transcripts"), [(1, 1, 1), (2, 2, 1), (8, 8, 4)])
def test_a_worker_takes_a_command_a_core_and_a_transcript_for_two(
    monkeypatch: pytest.MonkeyPatch, cores: int, commands: int, transcripts: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    made = runpy.run_path(settings.__file__)["WorkerSettings"](S3_BUCKET="b")
    assert (made.slots_command, made.slots_transcribe) == (commands, transcripts)


def test_how_long_records_are_kept_and_leases_last_by_default() -> None:
    """As services/ffmpeg/README.md tells it."""
    policy = WorkerSettings(S3_BUCKET="b").policy
    assert policy.lease_seconds == 60
    assert (policy.keep_completed_seconds, policy.keep_failed_seconds) == (7 * 86400, 30 * 86400)


def test_a_handler_that_does_not_stop_ends_the_process_before_its_drain_is_over() -> None:
    most = TIDY_SECONDS - 5  # what the worker waits besides
    assert WorkerSettings(S3_BUCKET="b", job_kill_seconds=most - 1).job_kill_seconds < most
    with pytest.raises(ValidationError, match="job_kill_seconds"):
        WorkerSettings(S3_BUCKET="b", job_kill_seconds=most)


async def test_every_kind_has_a_handler() -> None:
    anything: Any = SimpleNamespace(sandbox=None, objects=None, data=None)
    async with AsyncExitStack() as stack:
        assert set(handlers(stack, WorkerSettings(S3_BUCKET="b"), anything, anything)) == set(JobKind)


@pytest.mark.parametrize("kind", [JobKind.COMMAND, JobKind.JOIN])
def test_only_a_completed_task_is_wholly_done(kind: JobKind) -> None:
    """When ffmpeg has ended, its outputs are yet to be stored."""
    spec = {"command": "", "input_files": {}, "output_files": {}}
    done = Job(ID, kind, "", spec, Priority.NORMAL, JobState.RUNNING, 1, progress=Progress(1.0))
    assert task_message(done, {}).progress.fraction == 0.99
    half = replace(done, progress=Progress(0.5))
    assert task_message(half, {}).progress.fraction == 0.5
    assert task_message(replace(half, state=JobState.COMPLETED), {}).progress.fraction == 1


def test_a_page_token_is_a_position() -> None:
    assert decode_place("t1", encode_place("t1", 1795237443000, ID)) == (1795237443000, ID)


@pytest.mark.parametrize("token", ["", "x", "bjE6MQ", encode_place("t1", 1, ID) + "=", encode_place("t1", 1, "x")])
def test_a_token_that_is_not_ours_is_refused(token: str) -> None:
    with pytest.raises(ReelwayError) as refused:
        decode_place("t1", token)
    assert refused.value.reason is ErrorReason.INVALID_PAGE_TOKEN


@pytest.mark.parametrize(
    ("url", "video"),
    [
        (f"video://{ID}", ID),
        (f"video://{ID.upper()}", ID),
        (f"video://{ID}/x", None),
        (f"video://{'-' * 36}", None),
        (f"https://example.com/{ID}", None),
    ],
)
def test_video_addresses(url: str, video: str | None) -> None:
    assert video_id_of(url) == video


@pytest.mark.parametrize("name", ["a.svg", "a.html", "a", "a.mp4.exe", ".mp4x"])
def test_what_a_browser_could_run_is_served_as_bytes(name: str) -> None:
    assert type_of(name) == "application/octet-stream"


@pytest.mark.parametrize(
    ("served", "extensions"),
    [
        ("video/mp4", "mp4 m4v MP4"),
        ("video/quicktime", "mov"),
        ("video/webm", "webm"),
        ("video/x-matroska", "mkv"),
        ("video/x-msvideo", "avi"),
        ("video/ogg", "ogv"),
        ("video/mp2t", "ts"),
        ("video/mpeg", "mpg mpeg"),
        ("video/x-flv", "flv"),
        ("image/gif", "gif"),
        ("image/png", "png"),
        ("image/jpeg", "jpg jpeg"),
        ("image/webp", "webp"),
        ("audio/mpeg", "mp3"),
        ("audio/mp4", "m4a"),
        ("audio/aac", "aac"),
        ("audio/ogg", "ogg opus"),
        ("audio/flac", "flac"),
        ("audio/wav", "wav"),
        ("text/plain; charset=utf-8", "srt"),
        ("text/vtt; charset=utf-8", "vtt"),
    ],
)
def test_an_output_is_served_as_what_its_name_says(served: str, extensions: str) -> None:
    assert {type_of(f"a.b.{extension}") for extension in extensions.split()} == {served}


def test_a_work_folder_that_filter_graphs_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="only letters"):
        WorkerSettings(S3_BUCKET="b", work_dir="/tmp/my work")
    with pytest.raises(ValueError, match="File name too long"):
        WorkerSettings(S3_BUCKET="b", work_dir=f"/tmp/{300 * 'a'}")


def test_a_work_folder_is_one_that_jobs_can_be_run_in_however_it_is_named(tmp_path: Path) -> None:
    given = WorkerSettings(S3_BUCKET="b", work_dir=tmp_path / "data" / ".." / "work")
    assert given.work_dir == tmp_path.resolve() / "work"
    assert Plan((), (), (), given.limits).argv(given.work_dir)


def test_each_user_has_a_work_folder_of_its_own() -> None:
    assert WorkerSettings(S3_BUCKET="b").work_dir.name == f"reelway-work-{os.getuid()}"


def test_no_other_user_s_link_leads_to_the_work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left-over workers' folders are removed from where it leads."""
    tmp_path.chmod(0o1777)
    link = tmp_path / "work"
    link.symlink_to(tmp_path)
    assert WorkerSettings(S3_BUCKET="b", work_dir=link).work_dir == tmp_path.resolve()
    if os.geteuid() == 0:
        os.chown(link, 1, 1, follow_symlinks=False)  # what is root's is trusted
    monkeypatch.setattr(os, "geteuid", lambda: 2)
    with pytest.raises(ValueError, match="a link that belongs to another user"):
        WorkerSettings(S3_BUCKET="b", work_dir=link)


def test_a_command_has_the_limits_that_are_set_and_none_of_joins() -> None:
    """A plan tells them all."""
    limits = asdict(FrontSettings(S3_BUCKET="b", command_input_bytes=1, command_output_bytes=2).limits)
    assert (limits["input_bytes"], limits["output_bytes"]) == (1, 2)
    assert not limits.keys() & {"input_clips", "media_seconds"}


def test_a_join_may_use_what_upload_took_whatever_a_command_may() -> None:
    settings = WorkerSettings(S3_BUCKET="b", join_max_clips=7, command_input_bytes=1, command_output_bytes=1)
    limits = settings.join_limits
    assert (limits.input_clips, limits.input_bytes, limits.output_bytes) == (7, 5 * 2**30, 5 * 2**30)


def test_a_join_writes_no_more_than_can_be_copied_to_its_place() -> None:
    settings = WorkerSettings(S3_BUCKET="b", join_max_bytes=1, command_output_bytes=3)
    assert settings.join_limits.output_bytes == 3
    settings = WorkerSettings(S3_BUCKET="b", command_output_bytes=5 * 2**30 + 1)
    assert settings.join_limits.output_bytes == 5 * 2**30


def test_a_lease_must_outlast_three_renewals() -> None:
    with pytest.raises(ValueError, match="JOB_RENEW_SECONDS"):
        WorkerSettings(S3_BUCKET="b", job_lease_seconds=10, job_renew_seconds=4)
