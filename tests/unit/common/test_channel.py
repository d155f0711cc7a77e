"""What may be retried, and where a target leads."""

import json

import grpc
import pytest
from reelway.v1 import catalog_pb2, ffmpeg_pb2, library_pb2, signing_pb2, stream_pb2, transcript_pb2, upload_pb2

from services.common.channel import _service_config, target_of

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
