"""Between `ReelwayError` and google.rpc.Status: the same reason on both sides of a call (AIP-193)."""

from __future__ import annotations

from typing import cast

import grpc
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.error_catalog import ErrorReason
from services.common.errors import FieldViolation, ReelwayError

DOMAIN = "reelway"

# What a bare status from gRPC itself (no details: refused connection, deadline, cancel) means to us.
_BARE = {
    grpc.StatusCode.UNAVAILABLE: ErrorReason.SERVICE_UNAVAILABLE,
    # The connection broke within a message (RST_STREAM; a write that failed). Our own INTERNAL comes with details.
    grpc.StatusCode.INTERNAL: ErrorReason.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ErrorReason.TIMEOUT,
    # Our own cancelling never comes out as a status: a server that was told to stop gives calls this one.
    grpc.StatusCode.CANCELLED: ErrorReason.SERVICE_UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ErrorReason.TOO_MANY_REQUESTS,
}


def to_status(error: ReelwayError) -> grpc.Status:
    """The rich status that a servicer aborts with."""
    kind = error.kind
    status = status_pb2.Status(code=code_pb2.Code.Value(kind.code.name), message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason.name, domain=DOMAIN, metadata=error.metadata)
    status.details.add().Pack(info)
    if error.violations:
        bad = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.message, reason=v.type)
                for v in error.violations
            ]
        )
        status.details.add().Pack(bad)
    if kind.retry_seconds is not None:
        delay = duration_pb2.Duration(seconds=kind.retry_seconds)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    rich: grpc.Status = rpc_status.to_status(status)
    return rich


def from_rpc_error(error: grpc.RpcError) -> ReelwayError:
    """What the other side meant; a status without our details becomes the nearest reason."""
    call = cast(grpc.Call, error)
    try:
        status = rpc_status.from_call(call)
    except ValueError:
        status = None
    reason: ErrorReason | None = None
    metadata: dict[str, str] = {}
    violations: list[FieldViolation] = []
    for detail in status.details if status is not None else ():
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in ErrorReason.__members__:
            reason, metadata = ErrorReason[info.reason], dict(info.metadata)
        elif detail.Unpack(bad):
            violations = [FieldViolation(v.field, v.description, v.reason) for v in bad.field_violations]
    if reason is not None and status is not None:
        detail_text = "" if status.message == reason.value.message else status.message
        return ReelwayError(reason, detail_text, violations, metadata)
    return ReelwayError(_BARE.get(call.code(), ErrorReason.INTERNAL))
