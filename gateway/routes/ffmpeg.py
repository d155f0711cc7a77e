"""Dialect 004, ffmpeg-api: register a command, follow it, fetch its outputs."""

from __future__ import annotations

import contextlib
from datetime import UTC
from typing import Annotated, Literal, TypeAlias

from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ConfigDict, Field
from reelway.v1 import ffmpeg_pb2

from gateway.invalid_request import ErrorBody
from gateway.keys import ENDLESS, JOBS
from gateway.routing import COMMON_ANSWERS, RETRY_AFTER, Answer, Routes
from services.common.errors import ReelwayError
from services.common.request_limits import IDEMPOTENCY_KEY_LENGTH
from services.common.uuids import UuidText

routes = Routes("ffmpeg-api", answers=COMMON_ANSWERS)

_Status: TypeAlias = Literal["pending", "running", "completed", "failed"]
_STATUSES: dict[ffmpeg_pb2.TaskState.ValueType, _Status] = {
    ffmpeg_pb2.TASK_STATE_PENDING: "pending",
    ffmpeg_pb2.TASK_STATE_RUNNING: "running",
    ffmpeg_pb2.TASK_STATE_COMPLETED: "completed",
    ffmpeg_pb2.TASK_STATE_FAILED: "failed",
    # The document knows four states.
    ffmpeg_pb2.TASK_STATE_CANCELLED: "failed",
}
_LAST_EVENT = "end"
_NO_FFMPEG = '{"mode": "", "level": "", "ok": false}'
_NOT_FOUND = {404: Answer("No such task, or not yours", ErrorBody)}
_REFUSED = {
    400: Answer("The command is not allowed; `detail` says which option, filter or placeholder, and why", ErrorBody)
}


class RegisterBody(BaseModel):
    """A command."""

    model_config = ConfigDict(extra="forbid")

    ffmpeg_command: Annotated[str, Field(description="Arguments, with or without a leading `ffmpeg`")]
    input_files: Annotated[dict[str, str], Field(description="Placeholder to http(s):// or video://{id} address")]
    output_files: Annotated[
        dict[str, str],
        Field(
            description="Placeholder to plain file name: at most 127 letters, digits, blanks and `_ . ( ) + , @ -` "
            "(255 bytes), the first a letter, a digit or `_`"
        ),
    ]

    @property
    def command(self) -> ffmpeg_pb2.CommandWork:
        """Without the dialect's names."""
        return ffmpeg_pb2.CommandWork(
            command=self.ffmpeg_command, input_files=self.input_files, output_files=self.output_files
        )


class RegisterHeaders(BaseModel):
    """Optional headers."""

    idempotency_key: Annotated[
        str,
        Field(
            max_length=IDEMPOTENCY_KEY_LENGTH,
            description="A repeated request with the same key returns the first task. Clients without a token share "
            "one set of keys: use random ones.",
        ),
    ] = ""


class TaskPath(BaseModel):
    """Which task."""

    task_id: UuidText


class PageQuery(BaseModel):
    """Which page."""

    limit: Annotated[int, Field(ge=1, le=100, description="Tasks per page")] = 20
    next: Annotated[str, Field(max_length=200, description="`next` of the previous page")] = ""


class TaskBody(BaseModel):
    """A task."""

    task_id: str
    status: _Status
    output_urls: Annotated[dict[str, str] | None, Field(description="Placeholder to presigned URL")] = None
    error_message: str | None = None


class TaskStatus(TaskBody):
    """A task and its progress."""

    progress: Annotated[float, Field(description="0 to 1; 0 while it is not known")] = 0.0
    speed: Annotated[float | None, Field(description="Seconds of media per second")] = None
    created_at: str
    started_at: Annotated[str | None, Field(description="Of the latest attempt")] = None
    finished_at: str | None = None
    attempt: Annotated[int, Field(description="How many times it was started")] = 0


class TaskPage(BaseModel):
    """Tasks, newest first, without the URLs of their outputs."""

    tasks: list[TaskStatus]
    next: Annotated[str | None, Field(description="Of the next page; null on the last")] = None


class PlanBody(BaseModel):
    """What would run."""

    arguments: Annotated[list[str], Field(description="After `ffmpeg`; each file as its placeholder in braces")]
    limits: Annotated[dict[str, float], Field(description="Seconds, bytes and counts, as the names say")]


class FfmpegHealthBody(BaseModel):
    """Whether ffmpeg is installed."""

    status: str = "ok"
    ffmpeg_installed: Literal["yes", "no"]


class IsolationBody(BaseModel):
    """The layers that isolate a command."""

    model_config = ConfigDict(extra="allow")

    mode: str
    level: str
    ok: bool


def _time(moment: Timestamp) -> str:
    return moment.ToDatetime(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(task: ffmpeg_pb2.Task) -> str | None:
    if task.state == ffmpeg_pb2.TASK_STATE_CANCELLED:
        return "Cancelled"
    return task.error.message if task.HasField("error") else None


def _status(task: ffmpeg_pb2.Task) -> TaskStatus:
    urls = {output.placeholder: output.url for output in task.outputs if output.url}
    return TaskStatus(
        task_id=task.task_id,
        status=_STATUSES[task.state],
        output_urls=urls or None,
        error_message=_error(task),
        progress=task.progress.fraction,
        speed=task.progress.speed or None,
        created_at=_time(task.create_time),
        started_at=_time(task.start_time) if task.HasField("start_time") else None,
        finished_at=_time(task.end_time) if task.HasField("end_time") else None,
        attempt=task.attempt,
    )


def _json(body: BaseModel, status: int = 200) -> web.Response:
    return web.json_response(text=body.model_dump_json(), status=status)


@routes.post(
    "/ffmpeg/register",
    summary="Register a task",
    answers={
        200: Answer("Registered; it will run", TaskBody),
        429: Answer("Too many of your tasks are waiting", ErrorBody, headers=RETRY_AFTER),
        **_REFUSED,
    },
)
async def register(request: web.Request, json: RegisterBody, headers: RegisterHeaders) -> web.Response:
    """Registers an ffmpeg command and runs it; follow it with its `task_id`.

    Name files only by placeholders: `in_1` as a whole argument, or `{{in_1}}`. The command has at most 16,384
    characters; command, addresses and names take at most 32 KiB together, as JSON in ASCII.
    """
    task = await request.app[JOBS].register(json.command, headers.idempotency_key)
    return _json(TaskBody.model_validate(_status(task).model_dump(include=set(TaskBody.model_fields))))


@routes.post("/ffmpeg/plan", summary="Check a command", answers={200: Answer("What would run", PlanBody), **_REFUSED})
async def plan(request: web.Request, json: RegisterBody) -> web.Response:
    """Checks a command as registering does, and returns its arguments and limits; nothing runs."""
    verdict = await request.app[JOBS].plan(json.command)
    return _json(PlanBody(arguments=list(verdict.arguments), limits=dict(verdict.limits)))


@routes.get(
    "/ffmpeg/status/{task_id}",
    summary="Check a task",
    answers={200: Answer("The task", TaskStatus), **_NOT_FOUND},
)
async def status(request: web.Request, path: TaskPath) -> web.Response:
    """The task as it is now. URLs of its outputs are signed anew by each call, usually for 7 days."""
    return _json(_status(await request.app[JOBS].get(path.task_id)))


@routes.get("/ffmpeg/tasks", summary="List your tasks", answers={200: Answer("A page of them", TaskPage)})
async def tasks(request: web.Request, query: PageQuery) -> web.Response:
    """The tasks of the token's user, newest first; without a token, none."""
    page = await request.app[JOBS].page(query.limit, query.next)
    return _json(TaskPage(tasks=[_status(task) for task in page.tasks], next=page.next_page_token or None))


@routes.post(
    "/ffmpeg/cancel/{task_id}",
    summary="Cancel a task",
    answers={
        200: Answer("Cancelled, or being stopped", TaskStatus),
        409: Answer("The task has finished", ErrorBody),
        **_NOT_FOUND,
    },
)
async def cancel(request: web.Request, path: TaskPath) -> web.Response:
    """Ends a waiting task at once, and a running one within a second; it is then `failed`, with `Cancelled`."""
    return _json(_status(await request.app[JOBS].cancel(path.task_id)))


@routes.get(
    "/ffmpeg/events/{task_id}",
    summary="Follow a task",
    head=False,
    request_headers={"Last-Event-ID": "Sent by a browser that reconnects"},
    answers={
        200: Answer(
            "`status` events, each with the body of the status call, until the task ends",
            media_types=["text/event-stream"],
        ),
        204: Answer("The last event was already sent"),
        **_NOT_FOUND,
    },
)
async def events(request: web.Request, path: TaskPath) -> web.StreamResponse:
    """Server-Sent Events: the task's status now and whenever it changes (WHATWG HTML, 9.2)."""
    if request.headers.get("Last-Event-ID") == _LAST_EVENT:
        # 204 is how a server tells an EventSource not to come back.
        return web.Response(status=204)
    async with contextlib.aclosing(request.app[JOBS].watch(path.task_id)) as changes:
        # The first answer decides between 404 and a stream.
        task = await anext(changes)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        await response.write(b"retry: 2000\n\n")
        await response.write(_event(task))
        # A service that goes away ends the stream, and the browser comes back by itself.
        with contextlib.suppress(ReelwayError):
            async with request.app[ENDLESS].until_drained():
                async for task in changes:
                    await response.write(_event(task))
    return response


def _event(task: ffmpeg_pb2.Task) -> bytes:
    last = f"id: {_LAST_EVENT}\n" if task.HasField("end_time") else ""
    return f"event: status\n{last}data: {_status(task).model_dump_json()}\n\n".encode()


@routes.get(
    "/ffmpeg/health",
    summary="Health of ffmpeg",
    open=True,
    answers={200: Answer("The service answers", FfmpegHealthBody)},
)
async def health(request: web.Request) -> web.Response:
    """Whether ffmpeg is installed."""
    found = await request.app[JOBS].health()
    return _json(FfmpegHealthBody(ffmpeg_installed="yes" if found.available else "no"))


@routes.get(
    "/health/isolation",
    summary="Isolation of commands",
    answers={
        200: Answer("Commands are accepted", IsolationBody),
        503: Answer(
            "They are not, or no ffmpeg service answers",
            IsolationBody | ErrorBody,
            headers={"Retry-After": "Seconds, if no service answers."},
        ),
    },
)
async def isolation(request: web.Request) -> web.Response:
    """Which layers isolate a command from the machine, and whether they were verified."""
    found = await request.app[JOBS].health()
    return web.json_response(text=found.isolation_json or _NO_FFMPEG, status=200 if found.isolated else 503)
