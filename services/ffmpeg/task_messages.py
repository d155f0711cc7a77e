"""Between jobs and the messages of FfmpegService."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from reelway.v1 import ffmpeg_pb2

from services.ffmpeg.job import MOST_UNFINISHED, Job
from services.ffmpeg.job_state import JobKind, JobState, Priority
from services.ffmpeg.redis_job_store import QueueStats

# Both sides have the same names; the messages' begin with that of their enum.
KINDS = {kind: ffmpeg_pb2.TaskKind.Value(f"TASK_KIND_{kind.name}") for kind in JobKind}
PRIORITIES = {priority: ffmpeg_pb2.TaskPriority.Value(f"TASK_PRIORITY_{priority.name}") for priority in Priority}
_STATES = {state: ffmpeg_pb2.TaskState.Value(f"TASK_STATE_{state.name}") for state in JobState}


def command_spec(command: ffmpeg_pb2.CommandWork) -> dict[str, Any]:
    """What the handler of commands takes."""
    return {
        "command": command.command,
        "input_files": dict(command.input_files),
        "output_files": dict(command.output_files),
    }


def video_spec(video: ffmpeg_pb2.VideoWork) -> dict[str, Any]:
    """What the handlers of video work take."""
    return {"video_id": video.video_id, "parameters": dict(video.parameters)}


def outputs_of(job: Job) -> list[Mapping[str, Any]]:
    """placeholder, name and size_bytes of each output, by placeholder; empty unless the job is completed."""
    outputs: list[Mapping[str, Any]] = list(job.result.get("outputs", ()))
    return sorted(outputs, key=lambda output: str(output["placeholder"]))


def task_message(job: Job, urls: Mapping[str, str]) -> ffmpeg_pb2.Task:
    """The job as clients see it; `urls` by placeholder."""
    task = ffmpeg_pb2.Task(
        task_id=job.id,
        kind=KINDS[job.kind],
        state=_STATES[job.state],
        owner=job.owner,
        priority=PRIORITIES[job.priority],
        create_time=_time(job.created_ms),
        start_time=_time(job.started_ms),
        end_time=_time(job.finished_ms),
        retry_time=_time(job.due_ms),
        attempt=job.attempt,
        progress=ffmpeg_pb2.TaskProgress(
            fraction=1.0 if job.state is JobState.COMPLETED else min(job.progress.fraction, MOST_UNFINISHED),
            fps=job.progress.fps,
            speed=job.progress.speed,
            media_seconds=job.progress.media_seconds,
        ),
        outputs=[
            ffmpeg_pb2.TaskOutput(
                placeholder=output["placeholder"],
                name=output["name"],
                size_bytes=output["size_bytes"],
                url=urls.get(output["placeholder"], ""),
            )
            for output in outputs_of(job)
        ],
        result_json=json.dumps({k: v for k, v in job.result.items() if k != "outputs"}) if job.result else "",
        cancel_requested=job.cancel_requested,
        retry_of=job.retry_of,
    )
    if job.failure is not None:
        task.error.reason, task.error.message = job.failure.reason, job.failure.message
    if job.kind is JobKind.COMMAND:
        task.command.command = job.spec["command"]
        task.command.input_files.update(job.spec["input_files"])
        task.command.output_files.update(job.spec["output_files"])
    else:
        task.video.kind = KINDS[job.kind]
        task.video.video_id = job.spec.get("video_id", "")
        task.video.parameters.update(job.spec.get("parameters", {}))
    return task


def stats_message(stats: QueueStats) -> ffmpeg_pb2.GetQueueStatsResponse:
    """The queue's counts."""
    return ffmpeg_pb2.GetQueueStatsResponse(
        kinds=[
            ffmpeg_pb2.KindStats(
                kind=KINDS[kind],
                ready=found.ready,
                unfinished=found.unfinished,
                oldest_seconds=found.oldest_ms / 1000,
            )
            for kind, found in stats.kinds.items()
        ],
        delayed=stats.delayed,
        active=stats.active,
        workers=stats.workers,
    )


def _time(milliseconds: int | None) -> Timestamp | None:
    if milliseconds is None:
        return None
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)
