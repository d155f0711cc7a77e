"""What may be retried, and where a target leads."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest
from reelway.v1 import catalog_pb2, ffmpeg_pb2, library_pb2, signing_pb2, stream_pb2, transcript_pb2, upload_pb2

from services.common import server
from services.common.channel import _service_config, open_channel, target_of, tls_files
from services.common.settings import ServiceSettings, Settings, load
from tests.support.authority import Authority

SERVICES = {
    descriptor.full_name: descriptor
    for module in (catalog_pb2, ffmpeg_pb2, library_pb2, signing_pb2, stream_pb2, transcript_pb2, upload_pb2)
    for descriptor in module.DESCRIPTOR.services_by_name.values()
}


def test_nothing_that_carries_a_stream_is_retried_by_the_channel() -> None:
    """The channel would have to keep the bytes of an upload, and would send those of a read twice."""
    for method_config in json.loads(_service_config())["methodConfig"]:
        for name in method_config["name"]:
            methods = SERVICES[name["service"]].methods
            named = [method for method in methods if name.get("method", method.name) == method.name]
            assert named
            assert not any(method.client_streaming or method.server_streaming for method in named)


@pytest.mark.parametrize(
    ("addresses", "target"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051"),
        ("127.0.0.1:50051,127.0.0.1:50052", "ipv4:127.0.0.1:50051,127.0.0.1:50052"),
        ("dns:///upload-headless:50051", "dns:///upload-headless:50051"),
        ("unix:/run/upload.sock", "unix:/run/upload.sock"),
    ],
)
def test_targets(addresses: str, target: str) -> None:
    assert target_of(addresses) == target


def test_only_the_one_status_that_says_nothing_was_done_is_retried() -> None:
    policy = json.loads(_service_config())["methodConfig"][0]["retryPolicy"]
    assert policy["retryableStatusCodes"] == [grpc.StatusCode.UNAVAILABLE.name]
    assert policy["maxAttempts"] <= 5


async def test_servers_allow_all_pings_of_our_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """For three that a server does not allow it ends the connection, with what runs on it."""
    given: dict[str, int] = {}

    class Enough(Exception):
        pass

    def take(*_: object, options: list[tuple[str, int]], **__: object) -> None:
        given.update(options)
        raise Enough

    monkeypatch.setattr(grpc.aio, "insecure_channel", take)
    monkeypatch.setattr(grpc.aio, "server", take)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_signal_handler", lambda *_: None)
    with pytest.raises(Enough):
        open_channel("127.0.0.1:1")
    with pytest.raises(Enough):
        await server.serve(ServiceSettings(), lambda _: None, service_names=(), ready={})
    assert given["grpc.http2.min_ping_interval_without_data_ms"] < given["grpc.keepalive_time_ms"]
    assert given["grpc.keepalive_permit_without_calls"] == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("CERT", b"no certificate"),
        ("KEY", b""),
        ("KEY", Authority().issue()[0]),
        ("KEY", Authority().issue(password=b"secret")[0]),
        ("CA", b""),
        ("CA", None),
    ],
    ids=["no certificate", "an empty key", "another's key", "an encrypted key", "an empty CA", "no CA"],
)
def test_files_that_make_no_tls_end_the_process_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    name: str,
    content: bytes | None,
) -> None:
    authority = Authority()
    key, certificate = authority.issue()
    good = {"KEY": key, "CERT": certificate, "CA": authority.pem}
    for one, text in good.items():
        (tmp_path / one).write_bytes(text)
        monkeypatch.setenv(f"GRPC_TLS_{one}_FILE", str(tmp_path / one))
    settings = load(Settings)
    assert tls_files(settings) == (key, certificate, authority.pem)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit) as end:
        tls_files(settings)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("settings: GRPC_TLS_…_FILE: ")
    assert said.count("\n") == 1
