"""What may be retried, and where a target leads."""

import asyncio
import json

import grpc
import pytest
from reelway.v1 import catalog_pb2, ffmpeg_pb2, library_pb2, signing_pb2, stream_pb2, transcript_pb2, upload_pb2

from services.common import server
from services.common.channel import _service_config, open_channel, target_of
from services.common.settings import ServiceSettings

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
