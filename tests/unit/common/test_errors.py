"""The table of reasons: complete, and the same on both sides of a call."""

import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error, to_status
from services.common.errors import FieldViolation, ReelwayError

# gRPC code -> HTTP statuses that it may stand for (google.rpc.Code, and the contracts' own).
HTTP_OF_CODE = {
    grpc.StatusCode.INTERNAL: {500},
    grpc.StatusCode.UNAUTHENTICATED: {401, 503},
    grpc.StatusCode.PERMISSION_DENIED: {403},
    grpc.StatusCode.INVALID_ARGUMENT: {400, 422},
    grpc.StatusCode.RESOURCE_EXHAUSTED: {413, 429},
    grpc.StatusCode.NOT_FOUND: {404},
    grpc.StatusCode.ALREADY_EXISTS: {409},
    grpc.StatusCode.FAILED_PRECONDITION: {409, 412, 425},
    grpc.StatusCode.ABORTED: {409, 503},
    grpc.StatusCode.OUT_OF_RANGE: {416},
    grpc.StatusCode.UNAVAILABLE: {503},
    grpc.StatusCode.DEADLINE_EXCEEDED: {408, 503},
}

# What no service tells: defects, and what the gateway says itself.
NEVER_NAMED = {ErrorReason.INTERNAL, ErrorReason.NO_TRANSCRIPT}
PROTOS = Path(__file__).parents[3] / "protos" / "reelway" / "v1"


class Received(grpc.RpcError):
    """What a client has in its hands after a call that failed."""

    def __init__(self, status: Any) -> None:
        self._status = status

    def code(self) -> grpc.StatusCode:
        code: grpc.StatusCode = self._status.code
        return code

    def details(self) -> str:
        return str(self._status.details)

    def trailing_metadata(self) -> Any:
        return self._status.trailing_metadata


class Bare:
    """A status that gRPC itself made: no details."""

    trailing_metadata = ()
    details = "failed to connect to all addresses; last error: ipv4:10.0.0.7:50051"

    def __init__(self, code: grpc.StatusCode) -> None:
        self.code = code


@pytest.mark.parametrize("reason", ErrorReason)
def test_each_reason_has_a_row_that_agrees_with_itself(reason: ErrorReason) -> None:
    kind = reason.value
    assert kind.message
    assert kind.http_status in HTTP_OF_CODE[kind.code]
    # Who is told to come back later is told when, and nobody else is.
    assert (kind.retry_seconds is not None) == (kind.http_status in {429, 503})


@pytest.mark.parametrize("reason", ErrorReason)
def test_each_reason_survives_the_wire(reason: ErrorReason) -> None:
    violations = [FieldViolation("video.title", "too long", "string_too_long"), FieldViolation("n", "negative")]
    sent = ReelwayError(reason, "more to say", violations, {"max_bytes": "17"})
    got = from_rpc_error(Received(to_status(sent)))
    assert (got.reason, got.message, got.metadata) == (reason, "more to say", {"max_bytes": "17"})
    assert list(got.violations) == violations
    plain = from_rpc_error(Received(to_status(ReelwayError(reason))))
    assert (plain.reason, plain.detail, plain.message) == (reason, "", reason.value.message)
    assert not plain.violations


@pytest.mark.parametrize("reason", ErrorReason)
def test_a_status_tells_when_to_try_again_where_that_helps(reason: ErrorReason) -> None:
    status = to_status(ReelwayError(reason))
    found = status_pb2.Status.FromString(dict(status.trailing_metadata)["grpc-status-details-bin"])
    retry, seconds = error_details_pb2.RetryInfo(), reason.value.retry_seconds
    told = [retry.retry_delay.seconds for detail in found.details if detail.Unpack(retry)]
    assert told == ([] if seconds is None else [seconds])


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, ErrorReason.SERVICE_UNAVAILABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ErrorReason.TIMEOUT),
        (grpc.StatusCode.CANCELLED, ErrorReason.SERVICE_UNAVAILABLE),
        (grpc.StatusCode.INTERNAL, ErrorReason.SERVICE_UNAVAILABLE),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ErrorReason.TOO_MANY_REQUESTS),
        (grpc.StatusCode.UNKNOWN, ErrorReason.INTERNAL),
        (grpc.StatusCode.UNIMPLEMENTED, ErrorReason.INTERNAL),
    ],
)
def test_a_status_of_grpc_itself_becomes_the_nearest_reason_without_its_words(
    code: grpc.StatusCode, reason: ErrorReason
) -> None:
    error = from_rpc_error(Received(Bare(code)))
    assert error.reason is reason
    assert "10.0.0.7" not in error.message


def test_a_status_that_its_details_contradict_is_taken_by_its_code() -> None:
    status = to_status(ReelwayError(ErrorReason.VIDEO_NOT_FOUND))

    class Contradicted:
        code, details = grpc.StatusCode.UNAVAILABLE, status.details
        trailing_metadata = status.trailing_metadata

    assert from_rpc_error(Received(Contradicted())).reason is ErrorReason.SERVICE_UNAVAILABLE


def test_a_reason_of_a_newer_release_is_taken_by_its_code() -> None:
    status = to_status(ReelwayError(ErrorReason.STORE_UNAVAILABLE))
    rich = status_pb2.Status.FromString(dict(status.trailing_metadata)["grpc-status-details-bin"])
    rich.details[0].Pack(error_details_pb2.ErrorInfo(reason="FROM_THE_FUTURE", domain="reelway"))

    class Newer:
        code, details = status.code, status.details
        trailing_metadata = (("grpc-status-details-bin", rich.SerializeToString()),)

    assert from_rpc_error(Received(Newer())).reason is ErrorReason.SERVICE_UNAVAILABLE


def test_another_domain_s_reason_is_not_ours() -> None:
    status = to_status(ReelwayError(ErrorReason.VIDEO_NOT_FOUND))
    rich = status_pb2.Status.FromString(dict(status.trailing_metadata)["grpc-status-details-bin"])
    rich.details[0].Pack(error_details_pb2.ErrorInfo(reason="VIDEO_NOT_FOUND", domain="elsewhere.example"))

    class Foreign:
        code, details = status.code, status.details
        trailing_metadata = (("grpc-status-details-bin", rich.SerializeToString()),)

    assert from_rpc_error(Received(Foreign())).reason is ErrorReason.INTERNAL


def test_the_protos_name_every_reason_with_its_code() -> None:
    named: set[ErrorReason] = set()
    codes = "|".join(code.name for code in grpc.StatusCode)
    for file in PROTOS.glob("*.proto"):
        # A comment in one line, without what is in parentheses.
        text = re.sub(r"\([^()]*\)", "", re.sub(r"\n *//", " ", file.read_text()))
        for code, told in re.findall(rf"\b({codes}):(.*?)(?=\b(?:{codes}):|\n)", text):
            reasons = [ErrorReason[name] for name in re.findall(r"\b[A-Z_]{4,}\b", told)]
            assert reasons, f"{file.name}: {code} without a reason"
            assert {reason.value.code.name for reason in reasons} == {code}
            named.update(reasons)
    assert named == set(ErrorReason) - NEVER_NAMED
