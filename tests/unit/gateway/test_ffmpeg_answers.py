"""Dialect 004's answers, word for word, to tasks in each of their states."""

from __future__ import annotations

import json
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from google.protobuf.timestamp_pb2 import Timestamp
from reelway.v1 import ffmpeg_pb2

from gateway.keys import JOBS
from gateway.operations.jobs import Jobs
from gateway.routes import ffmpeg


async def told(**task: Any) -> Any:
    """What a status call answers of a task."""
    found = ffmpeg_pb2.Task(task_id="t", create_time=Timestamp(seconds=1, nanos=234_567_890), **task)
    app = web.Application()
    app[JOBS] = cast(Jobs, Mock(get=AsyncMock(return_value=found)))
    answer = await ffmpeg.status(make_mocked_request("GET", "/", app=app), ffmpeg.TaskPath(task_id="t"))
    assert answer.text is not None
    return json.loads(answer.text)


async def test_a_task_as_it_is_told() -> None:
    waiting = {
        "task_id": "t",
        "status": "pending",
        "output_urls": None,
        "error_message": None,
        "progress": 0.0,
        "speed": None,
        "created_at": "1970-01-01T00:00:01.234Z",
        "started_at": None,
        "finished_at": None,
        "attempt": 0,
    }
    assert await told(state=ffmpeg_pb2.TASK_STATE_PENDING) == waiting
    half = ffmpeg_pb2.TaskProgress(fraction=0.5, speed=1.5, fps=30, media_seconds=7)
    begun: dict[str, Any] = {"start_time": Timestamp(seconds=2), "attempt": 3}
    running = waiting | {"started_at": "1970-01-01T00:00:02.000Z", "attempt": 3}
    assert await told(state=ffmpeg_pb2.TASK_STATE_RUNNING, progress=half, **begun) == running | {
        "status": "running",
        "progress": 0.5,
        "speed": 1.5,
    }
    begun["end_time"] = Timestamp(seconds=3)
    ended = running | {"finished_at": "1970-01-01T00:00:03.000Z"}
    outputs = [ffmpeg_pb2.TaskOutput(placeholder=name, name="a.mp4", url=f"http://{name}") for name in ("x", "y")]
    assert await told(state=ffmpeg_pb2.TASK_STATE_COMPLETED, outputs=outputs, **begun) == ended | {
        "status": "completed",
        "output_urls": {"x": "http://x", "y": "http://y"},
    }
    why = ffmpeg_pb2.TaskError(reason="FFMPEG_FAILED", message="Invalid data")
    for state, message in (("FAILED", "Invalid data"), ("CANCELLED", "Cancelled")):
        found = await told(state=ffmpeg_pb2.TaskState.Value(f"TASK_STATE_{state}"), error=why, **begun)
        assert found == ended | {"status": "failed", "error_message": message}
