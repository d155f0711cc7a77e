"""Dialect 004 on the whole system: real processes, real ffmpeg in its cage, real S3."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import grpc
import pytest
from aiohttp import web
from reelway.v1 import ffmpeg_pb2, ffmpeg_pb2_grpc

from deploy.local.ports import free_port
from services.common.caller import SYSTEM_USER, Caller, system_caller
from services.common.channel import open_channel
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.ffmpeg.task_messages import KINDS
from tests.support.clips import described, make_clip
from tests.support.library import LibraryUser
from tests.support.servers import S3Server
from tests.support.system import RunningSystem, start_system
from tests.support.waiting import until

ANNA, BORIS = uuid4(), uuid4()
FINISHED = ("completed", "failed")
LONG = {f"in_{n}": "http://example.com/" + "x" * 4000 for n in range(9)}


class Api:
    """The gateway, and the folder that a server of inputs serves."""

    def __init__(self, system: RunningSystem, http: aiohttp.ClientSession, inputs: str, files: Path) -> None:
        self.system, self.http, self.inputs, self.files = system, http, inputs, files

    async def call(self, method: str, path: str, expect: int = 200, user: Any = ANNA, **options: Any) -> Any:
        headers = options.pop("headers", {}) | (self.system.authorization(user) if user else {})
        async with self.http.request(method, self.system.base_url + path, headers=headers, **options) as response:
            text = await response.text()
            assert response.status == expect, f"{method} {path}: {response.status} {text}"
            return json.loads(text) if text else None

    async def register(self, command: str, outputs: dict[str, str], *files: str, **options: Any) -> str:
        inputs = {f"in_{n}": file if "://" in file else self.inputs + file for n, file in enumerate(files, 1)}
        body = {"ffmpeg_command": command, "input_files": inputs, "output_files": outputs}
        return str((await self.call("POST", "/ffmpeg/register", json=body, **options))["task_id"])

    async def register_over_grpc(self, command: str, outputs: dict[str, str], inputs: dict[str, str], user: Any) -> str:
        work = ffmpeg_pb2.CommandWork(command=command, input_files=inputs, output_files=outputs)
        async with open_channel(self.system.process("ffmpeg").listen) as channel:
            stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
            request = ffmpeg_pb2.RegisterTaskRequest(command=work)
            return (await stub.RegisterTask(request, metadata=Caller(user=str(user)).metadata())).task.task_id

    async def status(self, task_id: str, **options: Any) -> Any:
        return await self.call("GET", f"/ffmpeg/status/{task_id}", **options)

    async def finished(self, task_id: str, seconds: float = 30, **options: Any) -> Any:
        async def is_finished() -> bool:
            return (await self.status(task_id, **options))["status"] in FINISHED

        await until(is_finished, seconds)
        return await self.status(task_id, **options)

    async def fetch(self, url: str, to: Path) -> Path:
        async with self.http.get(url) as response:
            assert response.status == 200, await response.text()
            to.write_bytes(await response.read())
        return to


@pytest.fixture(scope="module")
async def api(juicefs_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    folder = tmp_path_factory.mktemp("jobs")
    files = folder / "files"
    files.mkdir()
    for name, seconds in (("video.mp4", 2), ("long.mp4", 30)):
        sound = ("-f", "lavfi", "-i", f"sine=d={seconds}")
        codecs = ("-c:v", "libx264", "-preset", "ultrafast")
        make_clip(files / name, (*sound, *codecs), seconds=seconds, size="320x180")
    (files / "noise.mp4").write_bytes(bytes(range(256)) * 100)
    app = web.Application()
    app.router.add_static("/", files)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    env = {
        "FFMPEG_INPUT_ALLOW": f"127.0.0.1:{port}",
        "JOB_BACKOFF_SECONDS": "0.1",
        "WORK_DIR": str(folder / "work"),
        "COMMAND_INPUT_BYTES": "1GiB",
        "S3_PUBLIC_ENDPOINT_URL": public_endpoint(juicefs_s3),
    }
    async with aiohttp.ClientSession() as http, start_system(folder / "system", env=env, s3=juicefs_s3) as system:
        yield Api(system, http, f"http://127.0.0.1:{port}/", files)
    await runner.cleanup()


def public_endpoint(s3: S3Server) -> str:
    """The store as clients reach it: the same server by another name."""
    return s3.endpoint_url.replace("127.0.0.1", "localhost")


async def test_the_documented_example_runs_as_documented(api: Api, tmp_path: Path) -> None:
    body = {
        "ffmpeg_command": "-i in_1 -vf scale=1280:720 out_1",
        "input_files": {"in_1": f"{api.inputs}video.mp4"},
        "output_files": {"out_1": "output.mp4"},
    }
    registered = await api.call("POST", "/ffmpeg/register", json=body)
    task_id = registered["task_id"]
    assert registered == {"task_id": task_id, "status": "pending", "output_urls": None, "error_message": None}
    done = await api.finished(task_id)
    assert (done["status"], done["error_message"], done["progress"], done["attempt"]) == ("completed", None, 1.0, 1)
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]
    assert all(done[name].endswith("Z") for name in ("created_at", "started_at", "finished_at"))
    url = done["output_urls"]["out_1"]
    s3 = api.system.s3
    assert "localhost" not in s3.endpoint_url
    assert url.startswith(f"{public_endpoint(s3)}/{s3.bucket}/ffmpeg-outputs/{task_id}/output.mp4?")
    assert "X-Amz-Expires=604800" in url
    stream = described(await api.fetch(url, tmp_path / "output.mp4"), "-show_streams")["streams"][0]
    assert (stream["width"], stream["height"]) == (1280, 720)


async def test_each_status_call_signs_anew(api: Api) -> None:
    task_id = await api.register("-i in_1 -c copy out_1", {"out_1": "a.mp4"}, "video.mp4")
    first = (await api.finished(task_id))["output_urls"]["out_1"]

    async def signed_later() -> bool:
        return bool((await api.status(task_id))["output_urls"]["out_1"] != first)

    await until(signed_later)


async def test_several_inputs_and_outputs_with_awkward_names(api: Api, tmp_path: Path) -> None:
    task_id = await api.register(
        "-i in_1 -i {{in_2}} -map 0:v -map 1:a -c copy {{ out_1 }} -map 1:a -vn out_2",
        {"out_1": "my film ü+1.mkv", "out_2": "sound.mp3"},
        "video.mp4",
        "long.mp4",
    )
    done = await api.finished(task_id)
    assert done["status"] == "completed", done["error_message"]
    film = described(await api.fetch(done["output_urls"]["out_1"], tmp_path / "a.mkv"), "-show_streams")
    sound = described(await api.fetch(done["output_urls"]["out_2"], tmp_path / "b.mp3"), "-show_format")
    assert [stream["codec_type"] for stream in film["streams"]] == ["video", "audio"]
    assert float(sound["format"]["duration"]) == pytest.approx(30, abs=0.5)


async def test_a_video_of_this_system_is_an_input_for_who_may_read_it(api: Api) -> None:
    owner, other = (LibraryUser(api.system, api.http, user) for user in (ANNA, BORIS))
    film = await asyncio.to_thread((api.files / "video.mp4").read_bytes)
    hash_id = (await owner.draft(film))["hash_id"]

    async def outcomes() -> list[str]:
        """What becomes of the owner's task, somebody else's, nobody's, and somebody else's over gRPC."""
        copy, outputs, video = "-i in_1 -c copy out_1", {"out_1": "a.mp4"}, f"video://{hash_id}"
        ids = [(user, await api.register(copy, outputs, video, user=user)) for user in (ANNA, BORIS, None)]
        ids.append((BORIS, await api.register_over_grpc(copy, outputs, {"in_1": video}, BORIS)))
        done = [await api.finished(task_id, user=user) for user, task_id in ids]
        return [task["error_message"] or task["status"] for task in done]

    refused = "in_1: there is no such video, or it is not yours"
    assert await outcomes() == [refused] * 4, "a draft is nobody's to read, as through every other door"
    await owner.publish(hash_id, is_private=True)
    # What the stream service knows of a video is a second old at most.
    await other.until_status(f"/videos/{hash_id}/stream", 404)
    await owner.until_status(f"/videos/{hash_id}/stream", 200)
    assert await outcomes() == ["completed", refused, refused, refused]
    await owner.ask("PUT", f"/video/my/{hash_id}", 204, json={"is_private": False})
    await other.until_status(f"/videos/{hash_id}/stream", 200)
    assert await outcomes() == ["completed"] * 4
    missing = await api.register("-i in_1 -c copy out_1", {"out_1": "a.mp4"}, f"video://{uuid4()}")
    assert (await api.finished(missing))["error_message"] == refused, "what is not there looks the same"


async def test_failures_tell_what_a_person_can_act_on(api: Api) -> None:
    corrupt = await api.finished(await api.register("-i in_1 out_1", {"out_1": "a.mp4"}, "noise.mp4"))
    assert corrupt["status"] == "failed"
    assert "Invalid data found" in corrupt["error_message"]
    assert "/work/" not in corrupt["error_message"]
    assert "Traceback" not in corrupt["error_message"]
    missing = await api.finished(await api.register("-i in_1 out_1", {"out_1": "a.mp4"}, "nothing.mp4"))
    assert missing["error_message"] == "in_1: the input's server answered 404"
    elsewhere = api.inputs.replace("127.0.0.1", "localhost") + "x"
    gone = await api.finished(await api.register("-i in_1 out_1", {"out_1": "a.mp4"}, elsewhere))
    assert gone["status"] == "failed"
    assert (missing["output_urls"], missing["attempt"]) == (None, 1)
    assert (missing["progress"], missing["speed"]) == (0.0, None), "it never ran"


@pytest.mark.parametrize(
    ("change", "status", "detail"),
    [
        ({"ffmpeg_command": ""}, 400, "No ffmpeg_command provided"),
        ({"output_files": {}}, 400, "No output_files provided"),
        ({"ffmpeg_command": "-i in_1 -f tee out_1"}, 400, "tee"),
        ({"input_files": {"in_1": "http://169.254.169.254/latest"}}, 400, "public"),
        ({"input_files": {"in_1": "file:///etc/passwd"}}, 400, "in_1: only http"),
        ({"input_files": {"in_1": "http://example.com/a", "in_2": "http://example.com/b"}}, 400, "in_2"),
        ({"output_files": {"out_1": "../x.mp4"}}, 400, "out_1"),
        ({"ffmpeg_command": f"-i {' -i '.join(LONG)} out_1", "input_files": LONG}, 400, "more than 32768 bytes"),
        ({"priority": 1}, 422, "priority"),
        ({"input_files": None}, 422, "input_files"),
    ],
)
async def test_bad_registrations_are_refused_and_named(
    api: Api, change: dict[str, Any], status: int, detail: str
) -> None:
    body: dict[str, Any] = {
        "ffmpeg_command": "-i in_1 out_1",
        "input_files": {"in_1": "http://example.com/video.mp4"},
        "output_files": {"out_1": "output.mp4"},
    }
    for path in ("/ffmpeg/register", "/ffmpeg/plan"):
        refused = await api.call("POST", path, status, json=body | change)
        assert detail in json.dumps(refused["detail"])


async def test_a_plan_is_the_verdict_without_the_run(api: Api) -> None:
    body = {"ffmpeg_command": "-f lavfi -i testsrc -t 1 out_1", "input_files": {}, "output_files": {"out_1": "a.mp4"}}
    plan = await api.call("POST", "/ffmpeg/plan", json=body)
    assert plan["arguments"][-1].endswith("{{out_1}}")
    assert (plan["limits"]["wall_seconds"], plan["limits"]["input_bytes"]) == (3600, 2**30)
    done = await api.finished(await api.register("-f lavfi -i testsrc -t 1 out_1", {"out_1": "a.mp4"}))
    assert done["status"] == "completed", done["error_message"]


async def test_a_task_is_its_owners_alone(api: Api) -> None:
    owner = uuid4()
    task_id = await api.register("-i in_1 -c copy out_1", {"out_1": "a.mp4"}, "video.mp4", user=owner)
    for user in (ANNA, None):
        for method, path in (("GET", "status"), ("POST", "cancel"), ("GET", "events")):
            answer = await api.call(method, f"/ffmpeg/{path}/{task_id}", 404, user=user)
            assert answer == {"detail": "Task not found"}
    assert [task["task_id"] for task in (await api.call("GET", "/ffmpeg/tasks", user=owner))["tasks"]] == [task_id]
    assert task_id not in json.dumps(await api.call("GET", "/ffmpeg/tasks?limit=100"))
    assert (await api.call("GET", "/ffmpeg/tasks", user=None)) == {"tasks": [], "next": None}
    assert (await api.finished(task_id, user=owner))["status"] == "completed"


async def test_what_nobody_owns_is_open_to_whoever_has_its_id(api: Api) -> None:
    task_id = await api.register("-i in_1 -c copy out_1", {"out_1": "a.mp4"}, "video.mp4", user=None)
    assert (await api.finished(task_id, user=BORIS))["status"] == "completed"


async def test_unknown_tasks_and_bad_tokens(api: Api) -> None:
    for task_id in (uuid4(), "nonsense", "x:y"):
        assert await api.call("GET", f"/ffmpeg/status/{task_id}", 404) == {"detail": "Task not found"}
    for query in ("next=bogus", "limit=101"):
        refused = await api.call("GET", f"/ffmpeg/tasks?{query}", 422)
        assert refused["detail"][0]["loc"] == ["query", query.partition("=")[0]]


async def test_an_idempotency_key_makes_one_task(api: Api) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    outputs = {"out_1": "a.mp4"}
    ids = {await api.register("-i in_1 -c copy out_1", outputs, "video.mp4", headers=key) for _ in range(3)}
    assert len(ids) == 1
    body = {"ffmpeg_command": "-i in_1 out_1", "input_files": {"in_1": f"{api.inputs}x.mp4"}, "output_files": outputs}
    reused = await api.call("POST", "/ffmpeg/register", 422, json=body, headers=key)
    place = ["header", "idempotency-key"]
    assert reused == {"detail": [{"loc": place, "msg": "was used for another task", "type": "value_error"}]}
    too_long = await api.call("POST", "/ffmpeg/register", 422, json=body, headers={"Idempotency-Key": "k" * 201})
    assert (too_long["detail"][0]["loc"], too_long["detail"][0]["type"]) == (place, "string_too_long")


async def test_a_running_task_shows_progress_and_is_cancelled_within_a_second(api: Api) -> None:
    task_id = await api.register(
        "-i in_1 -vf scale=1920:1080 -c:v libx264 -preset slow -tune zerolatency out_1", {"out_1": "a.mp4"}, "long.mp4"
    )
    events: list[dict[str, Any]] = []
    named: list[bytes] = []
    cancelled = 0.0
    async with api.http.get(
        f"{api.system.base_url}/ffmpeg/events/{task_id}", headers=api.system.authorization(ANNA)
    ) as response:
        assert response.content_type == "text/event-stream"
        # Neither a cache nor a proxy may keep an event back.
        assert (response.headers["Cache-Control"], response.headers["X-Accel-Buffering"]) == ("no-store", "no")
        assert response.headers["X-Request-Id"]
        assert await response.content.readline() == b"retry: 2000\n"
        async for line in response.content:
            if not line.startswith(b"data: "):
                named += [line] if line.strip() else []
                continue
            events.append(json.loads(line[6:]))
            if events[-1]["progress"] > 0 and not cancelled:
                cancelled = time.monotonic()
                assert (await api.call("POST", f"/ffmpeg/cancel/{task_id}"))["status"] in ("running", "failed")
    assert time.monotonic() - cancelled < 10
    # The last one alone has the id by which a browser that comes back is sent away.
    assert named == [b"event: status\n"] * len(events) + [b"id: end\n"]
    assert (events[-1]["status"], events[-1]["error_message"]) == ("failed", "Cancelled")
    assert any(event["speed"] for event in events)
    assert await api.call("POST", f"/ffmpeg/cancel/{task_id}", 409) == {"detail": "The task has finished"}
    again = await api.call("GET", f"/ffmpeg/events/{task_id}", 204, headers={"Last-Event-ID": "end"})
    assert again is None


async def test_health_says_what_is_installed_and_how_it_is_caged(api: Api) -> None:
    assert await api.call("GET", "/ffmpeg/health", user=None) == {"status": "ok", "ffmpeg_installed": "yes"}
    isolation = await api.call("GET", "/health/isolation", user=None)
    assert (isolation["mode"], isolation["level"], isolation["ok"]) == ("strict", "kernel", True)
    assert '"/' not in json.dumps(isolation), "where anything lies is nobody's business outside"


@pytest.mark.parametrize("kind", set(ffmpeg_pb2.TaskKind.values()) - set(KINDS.values()))
async def test_work_that_nobody_does_is_refused(api: Api, kind: ffmpeg_pb2.TaskKind.ValueType) -> None:
    work = ffmpeg_pb2.VideoWork(kind=kind, video_id=str(uuid4()))
    async with open_channel(api.system.process("ffmpeg").listen) as channel:
        stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.RegisterTask(ffmpeg_pb2.RegisterTaskRequest(video=work))
    assert from_rpc_error(refused.value).reason is ErrorReason.INVALID_REQUEST


@pytest.mark.parametrize("user", ["", str(ANNA)], ids=["nobody", "a user"])
async def test_work_on_a_video_is_registered_by_the_system_alone(api: Api, user: str) -> None:
    # A probe moves the object that it is told of: whoever could register one could take anybody's video away.
    work = ffmpeg_pb2.VideoWork(
        kind=ffmpeg_pb2.TASK_KIND_PROBE, video_id=str(uuid4()), parameters={"video": "videos/none"}
    )
    async with open_channel(api.system.process("ffmpeg").listen) as channel:
        stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
        request = ffmpeg_pb2.RegisterTaskRequest(video=work)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.RegisterTask(request, metadata=Caller(user=user).metadata())
        assert (await stub.RegisterTask(request, metadata=system_caller().metadata())).task.owner == SYSTEM_USER
    assert from_rpc_error(refused.value).reason is ErrorReason.UNAUTHENTICATED


async def test_a_failed_task_is_retried_as_a_new_one_over_grpc(api: Api) -> None:
    failed = await api.register("-i in_1 out_1", {"out_1": "a.mp4"}, "noise.mp4")
    await api.finished(failed)
    me = Caller(user=str(ANNA), request_id="retry").metadata()
    async with open_channel(api.system.process("ffmpeg").listen) as channel:
        stub: ffmpeg_pb2_grpc.FfmpegServiceAsyncStub = ffmpeg_pb2_grpc.FfmpegServiceStub(channel)
        request = ffmpeg_pb2.RetryTaskRequest(task_id=failed, request_id="again")
        first = (await stub.RetryTask(request, metadata=me)).task
        second = (await stub.RetryTask(request, metadata=me)).task
        stats = await stub.GetQueueStats(ffmpeg_pb2.GetQueueStatsRequest(), metadata=me)
    assert (first.task_id, first.retry_of) == (second.task_id, failed)
    assert first.task_id != failed
    assert stats.workers == 1
    assert (await api.finished(first.task_id))["status"] == "failed"


# Last: the queue is full from here on.
async def test_a_thousand_tasks_are_taken_and_delay_another_owner_by_little(api: Api) -> None:
    copy, outputs = "-i in_1 -c copy out_1", {"out_1": "a.mp4"}
    gate = asyncio.Semaphore(32)
    flood = uuid4()

    async def one() -> str:
        async with gate:
            return await api.register(copy, outputs, "video.mp4", user=flood)

    before = resident_mib(api.system)
    # Usually a few seconds; where each call waited for a second, it would be more.
    async with asyncio.timeout(30):
        ids = await asyncio.gather(*(one() for _ in range(1000)))
    lone = await api.finished(await api.register(copy, outputs, "video.mp4"))
    assert lone["status"] == "completed"
    between = [at for at in await started_times(api, flood) if lone["created_at"] < at <= lone["started_at"]]
    slots = len(os.sched_getaffinity(0))
    assert len(between) <= 2 * slots, "it waited for more than two tasks of each slot"
    sample = ids[::50]
    waiting = [task_id for task_id in sample if (await api.status(task_id, user=flood))["status"] == "pending"]
    assert len(waiting) > len(sample) / 2, "the flood was nearly over when the other owner's task came"
    growth = {name: now - before[name] for name, now in resident_mib(api.system).items()}
    assert max(growth.values()) < 32, growth


async def started_times(api: Api, user: UUID) -> list[str]:
    """Of all tasks of a user that have started."""
    found: list[str] = []
    token = ""
    while True:
        page = await api.call("GET", "/ffmpeg/tasks", user=user, params={"limit": 100, "next": token})
        found += [task["started_at"] for task in page["tasks"] if task["started_at"]]
        if not (token := page["next"]):
            return found


def resident_mib(system: RunningSystem) -> dict[str, int]:
    """Of each process, without its children (proc(5))."""
    status = {one.name: Path(f"/proc/{one.pid}/status").read_text() for one in system.processes}
    return {name: int(text.partition("VmRSS:")[2].split()[0]) // 1024 for name, text in status.items()}
