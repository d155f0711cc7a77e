"""Every reason that a client can be given: one table for gRPC, HTTP and people."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import grpc


class ErrorReason(enum.Enum):
    """Stable, machine-readable names (AIP-193); the `reason` of google.rpc.ErrorInfo."""

    INTERNAL = "INTERNAL"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    NOT_THE_OWNER = "NOT_THE_OWNER"
    INVALID_REQUEST = "INVALID_REQUEST"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"  # noqa: S105 - no password
    HEADER_MISSING = "HEADER_MISSING"
    EMPTY_FILE = "EMPTY_FILE"
    NOT_A_VIDEO = "NOT_A_VIDEO"
    LENGTH_MISMATCH = "LENGTH_MISMATCH"
    FILE_TOO_LARGE = "FILE_TOO_LARGE"
    EMPTY_CHUNK = "EMPTY_CHUNK"
    CHUNK_TOO_LARGE = "CHUNK_TOO_LARGE"
    TOO_MANY_CHUNKS = "TOO_MANY_CHUNKS"
    TOO_MANY_UPLOADS = "TOO_MANY_UPLOADS"
    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH"
    OFFSET_MISMATCH = "OFFSET_MISMATCH"
    UPLOAD_SEALED = "UPLOAD_SEALED"
    UPLOAD_BUSY = "UPLOAD_BUSY"
    NO_DATA = "NO_DATA"
    JOINING = "JOINING"
    JOIN_FAILED = "JOIN_FAILED"
    INVALID_FILE_NAME = "INVALID_FILE_NAME"
    UNSUPPORTED_TYPE = "UNSUPPORTED_TYPE"
    FIELDS_MISSING = "FIELDS_MISSING"
    VIDEO_NOT_FOUND = "VIDEO_NOT_FOUND"
    USER_NOT_FOUND = "USER_NOT_FOUND"
    PRIVATE_VIDEO = "PRIVATE_VIDEO"
    STILL_PROCESSING = "STILL_PROCESSING"
    VIDEO_EXISTS = "VIDEO_EXISTS"
    VIDEO_CHANGED = "VIDEO_CHANGED"
    VERSION_CONFLICT = "VERSION_CONFLICT"
    NOT_SEALED = "NOT_SEALED"
    TRANSCRIPT_UNDER_WAY = "TRANSCRIPT_UNDER_WAY"
    NO_TRANSCRIPT = "NO_TRANSCRIPT"
    RANGE_NOT_SATISFIABLE = "RANGE_NOT_SATISFIABLE"
    TASK_NOT_FOUND = "TASK_NOT_FOUND"
    TASK_FINISHED = "TASK_FINISHED"
    TASK_NOT_RETRYABLE = "TASK_NOT_RETRYABLE"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    INDEX_MISSING = "INDEX_MISSING"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
    TIMEOUT = "TIMEOUT"
    COMMAND_REFUSED = "COMMAND_REFUSED"
    INPUT_REFUSED = "INPUT_REFUSED"
    ISOLATION_UNAVAILABLE = "ISOLATION_UNAVAILABLE"


@dataclass(frozen=True)
class ErrorKind:
    """One row: how a reason is told."""

    code: grpc.StatusCode
    http_status: int
    message: str
    """For a person; may be replaced by a more exact one, never by an internal one."""
    retry_seconds: float | None = None
    """Worth trying again after so long; None: the same call will fail again."""


_C = grpc.StatusCode

CATALOG: dict[ErrorReason, ErrorKind] = {
    ErrorReason.INTERNAL: ErrorKind(_C.INTERNAL, 500, "Internal error"),
    ErrorReason.UNAUTHENTICATED: ErrorKind(_C.UNAUTHENTICATED, 401, "Unauthorized"),
    ErrorReason.NOT_THE_OWNER: ErrorKind(_C.PERMISSION_DENIED, 403, "Not the owner of this video"),
    ErrorReason.INVALID_REQUEST: ErrorKind(_C.INVALID_ARGUMENT, 422, "Invalid request"),
    ErrorReason.INVALID_PAGE_TOKEN: ErrorKind(_C.INVALID_ARGUMENT, 422, "Invalid page token"),
    ErrorReason.HEADER_MISSING: ErrorKind(_C.INVALID_ARGUMENT, 422, "The first message must be the header"),
    ErrorReason.EMPTY_FILE: ErrorKind(_C.INVALID_ARGUMENT, 422, "The file is empty"),
    ErrorReason.NOT_A_VIDEO: ErrorKind(_C.INVALID_ARGUMENT, 422, "The file is not a video of a supported format"),
    ErrorReason.LENGTH_MISMATCH: ErrorKind(_C.INVALID_ARGUMENT, 422, "The file is not as long as declared"),
    ErrorReason.FILE_TOO_LARGE: ErrorKind(_C.RESOURCE_EXHAUSTED, 413, "The file is too large"),
    ErrorReason.EMPTY_CHUNK: ErrorKind(_C.INVALID_ARGUMENT, 400, "No video data provided"),
    ErrorReason.CHUNK_TOO_LARGE: ErrorKind(_C.RESOURCE_EXHAUSTED, 413, "The chunk is too large"),
    ErrorReason.TOO_MANY_CHUNKS: ErrorKind(_C.RESOURCE_EXHAUSTED, 413, "The video has too many chunks"),
    ErrorReason.TOO_MANY_UPLOADS: ErrorKind(_C.RESOURCE_EXHAUSTED, 429, "Too many uploads are open", 60.0),
    ErrorReason.CHECKSUM_MISMATCH: ErrorKind(
        _C.INVALID_ARGUMENT, 422, "The chunk does not have the checksum it should"
    ),
    ErrorReason.OFFSET_MISMATCH: ErrorKind(_C.FAILED_PRECONDITION, 409, "The video does not end at this offset"),
    ErrorReason.UPLOAD_SEALED: ErrorKind(_C.FAILED_PRECONDITION, 409, "The upload is finished"),
    ErrorReason.UPLOAD_BUSY: ErrorKind(_C.UNAVAILABLE, 503, "Too many chunks come at once", 1.0),
    ErrorReason.NO_DATA: ErrorKind(_C.NOT_FOUND, 404, "The video has no data yet"),
    ErrorReason.JOINING: ErrorKind(_C.ABORTED, 503, "The clips are being joined", 2.0),
    ErrorReason.JOIN_FAILED: ErrorKind(_C.FAILED_PRECONDITION, 409, "The clips cannot be joined to one video"),
    ErrorReason.INVALID_FILE_NAME: ErrorKind(_C.INVALID_ARGUMENT, 400, "The file name is not valid"),
    ErrorReason.UNSUPPORTED_TYPE: ErrorKind(_C.INVALID_ARGUMENT, 400, "The file type is not supported"),
    ErrorReason.FIELDS_MISSING: ErrorKind(_C.INVALID_ARGUMENT, 400, "Fields that publishing needs are missing"),
    ErrorReason.USER_NOT_FOUND: ErrorKind(_C.NOT_FOUND, 404, "User not found"),
    ErrorReason.PRIVATE_VIDEO: ErrorKind(_C.PERMISSION_DENIED, 403, "Forbidden"),
    ErrorReason.STILL_PROCESSING: ErrorKind(_C.FAILED_PRECONDITION, 425, "The video is still being processed"),
    ErrorReason.VIDEO_NOT_FOUND: ErrorKind(_C.NOT_FOUND, 404, "Video not found"),
    ErrorReason.VIDEO_EXISTS: ErrorKind(_C.ALREADY_EXISTS, 409, "A video with this id exists"),
    ErrorReason.VIDEO_CHANGED: ErrorKind(_C.FAILED_PRECONDITION, 412, "The video has changed"),
    ErrorReason.VERSION_CONFLICT: ErrorKind(_C.ABORTED, 409, "The record was changed meanwhile"),
    ErrorReason.NOT_SEALED: ErrorKind(_C.FAILED_PRECONDITION, 409, "The video is not one object yet"),
    ErrorReason.TRANSCRIPT_UNDER_WAY: ErrorKind(
        _C.FAILED_PRECONDITION, 409, "The video is being transcribed in another language"
    ),
    ErrorReason.NO_TRANSCRIPT: ErrorKind(_C.NOT_FOUND, 404, "The video has no transcript yet"),
    ErrorReason.RANGE_NOT_SATISFIABLE: ErrorKind(_C.OUT_OF_RANGE, 416, "The range is not inside the video"),
    ErrorReason.TASK_NOT_FOUND: ErrorKind(_C.NOT_FOUND, 404, "Task not found"),
    ErrorReason.TASK_FINISHED: ErrorKind(_C.FAILED_PRECONDITION, 409, "The task has finished"),
    ErrorReason.TASK_NOT_RETRYABLE: ErrorKind(
        _C.FAILED_PRECONDITION, 409, "Only a failed or cancelled task is retried"
    ),
    ErrorReason.STORE_UNAVAILABLE: ErrorKind(_C.UNAVAILABLE, 503, "Storage is not available right now", 2.0),
    ErrorReason.INDEX_MISSING: ErrorKind(_C.UNAVAILABLE, 503, "The catalogue is being rebuilt", 30.0),
    ErrorReason.SERVICE_UNAVAILABLE: ErrorKind(_C.UNAVAILABLE, 503, "The service is not available right now", 2.0),
    ErrorReason.TOO_MANY_REQUESTS: ErrorKind(_C.RESOURCE_EXHAUSTED, 429, "Too many requests", 5.0),
    ErrorReason.TIMEOUT: ErrorKind(_C.DEADLINE_EXCEEDED, 504, "The request took too long"),
    ErrorReason.COMMAND_REFUSED: ErrorKind(_C.INVALID_ARGUMENT, 400, "The ffmpeg command is not allowed"),
    ErrorReason.INPUT_REFUSED: ErrorKind(_C.INVALID_ARGUMENT, 400, "This input address is not allowed"),
    ErrorReason.ISOLATION_UNAVAILABLE: ErrorKind(_C.UNAVAILABLE, 503, "isolation-unavailable", 30.0),
}
