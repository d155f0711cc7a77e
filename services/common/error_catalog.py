"""Every reason that a client can be given: one table for gRPC, HTTP and people."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import grpc


@dataclass(frozen=True)
class ErrorKind:
    """One row: how a reason is told."""

    code: grpc.StatusCode
    http_status: int
    message: str
    """For a person; may be replaced by a more exact one, never by an internal one."""
    retry_seconds: int | None = None
    """Worth trying again after so long; None: the same call will fail again."""


_C = grpc.StatusCode


@enum.unique
class ErrorReason(enum.Enum):
    """Stable, machine-readable names (AIP-193), the `reason` of google.rpc.ErrorInfo; the value is how it is told."""

    INTERNAL = ErrorKind(_C.INTERNAL, 500, "Internal error")
    UNAUTHENTICATED = ErrorKind(_C.UNAUTHENTICATED, 401, "Unauthorized")
    # No fault of the user, whose own token was good: two of our processes have different secrets, or clocks.
    CALL_TOKEN_REFUSED = ErrorKind(_C.UNAUTHENTICATED, 503, "A service refused the call of another one", 5)
    NOT_THE_OWNER = ErrorKind(_C.PERMISSION_DENIED, 403, "Not the owner of this video")
    INVALID_REQUEST = ErrorKind(_C.INVALID_ARGUMENT, 422, "Invalid request")
    INVALID_PAGE_TOKEN = ErrorKind(_C.INVALID_ARGUMENT, 422, "Invalid page token")
    HEADER_MISSING = ErrorKind(_C.INVALID_ARGUMENT, 422, "The first message must be the header")
    EMPTY_FILE = ErrorKind(_C.INVALID_ARGUMENT, 422, "The file is empty")
    NOT_A_VIDEO = ErrorKind(_C.INVALID_ARGUMENT, 422, "The file is not a video of a supported format")
    LENGTH_MISMATCH = ErrorKind(_C.INVALID_ARGUMENT, 422, "The file is not as long as declared")
    FILE_TOO_LARGE = ErrorKind(_C.RESOURCE_EXHAUSTED, 413, "The file is too large")
    EMPTY_CHUNK = ErrorKind(_C.INVALID_ARGUMENT, 400, "No video data provided")
    CHUNK_TOO_LARGE = ErrorKind(_C.RESOURCE_EXHAUSTED, 413, "The chunk is too large")
    TOO_MANY_CHUNKS = ErrorKind(_C.RESOURCE_EXHAUSTED, 413, "The video has too many chunks")
    TOO_MANY_CLIPS = ErrorKind(_C.RESOURCE_EXHAUSTED, 413, "The video has too many clips to be joined")
    CLIPS_TOO_LARGE = ErrorKind(_C.RESOURCE_EXHAUSTED, 413, "The clips are too large together to be joined")
    TOO_MANY_UPLOADS = ErrorKind(_C.RESOURCE_EXHAUSTED, 429, "Too many uploads are open", 60)
    CHECKSUM_MISMATCH = ErrorKind(_C.INVALID_ARGUMENT, 422, "The chunk does not have the checksum it should")
    OFFSET_MISMATCH = ErrorKind(_C.FAILED_PRECONDITION, 409, "The video does not end at this offset")
    UPLOAD_SEALED = ErrorKind(_C.FAILED_PRECONDITION, 409, "The upload is finished")
    UPLOAD_BUSY = ErrorKind(_C.UNAVAILABLE, 503, "Too many chunks come at once", 1)
    NO_DATA = ErrorKind(_C.NOT_FOUND, 404, "The video has no data yet")
    JOINING = ErrorKind(_C.ABORTED, 503, "The clips are being joined", 2)
    JOIN_FAILED = ErrorKind(_C.FAILED_PRECONDITION, 409, "The clips cannot be joined to one video")
    INVALID_FILE_NAME = ErrorKind(
        _C.INVALID_ARGUMENT, 400, "A file name has 1 to 255 of a-z A-Z 0-9 ! @ _ . * ' ( ) -, and no dot first"
    )
    UNSUPPORTED_TYPE = ErrorKind(_C.INVALID_ARGUMENT, 400, "The file type is not supported")
    FIELDS_MISSING = ErrorKind(_C.INVALID_ARGUMENT, 400, "Fields that publishing needs are missing")
    USER_NOT_FOUND = ErrorKind(_C.NOT_FOUND, 404, "User not found")
    PRIVATE_VIDEO = ErrorKind(_C.PERMISSION_DENIED, 403, "Forbidden")
    STILL_PROCESSING = ErrorKind(_C.FAILED_PRECONDITION, 425, "The video is still being processed")
    VIDEO_NOT_FOUND = ErrorKind(_C.NOT_FOUND, 404, "Video not found")
    VIDEO_EXISTS = ErrorKind(_C.ALREADY_EXISTS, 409, "A video with this id exists")
    VIDEO_CHANGED = ErrorKind(_C.FAILED_PRECONDITION, 412, "The video has changed")
    VERSION_CONFLICT = ErrorKind(_C.ABORTED, 409, "The record was changed meanwhile")
    NOT_SEALED = ErrorKind(_C.FAILED_PRECONDITION, 409, "The video is not one object yet")
    TRANSCRIPT_UNDER_WAY = ErrorKind(_C.FAILED_PRECONDITION, 409, "The video is being transcribed in another language")
    NO_TRANSCRIPT = ErrorKind(_C.NOT_FOUND, 404, "The video has no transcript yet")
    RANGE_NOT_SATISFIABLE = ErrorKind(_C.OUT_OF_RANGE, 416, "The range is not inside the video")
    TASK_NOT_FOUND = ErrorKind(_C.NOT_FOUND, 404, "Task not found")
    TASK_FINISHED = ErrorKind(_C.FAILED_PRECONDITION, 409, "The task has finished")
    TASK_NOT_RETRYABLE = ErrorKind(_C.FAILED_PRECONDITION, 409, "Only a failed or cancelled task is retried")
    STORE_UNAVAILABLE = ErrorKind(_C.UNAVAILABLE, 503, "Storage is not available right now", 2)
    INDEX_MISSING = ErrorKind(_C.UNAVAILABLE, 503, "The catalogue is being rebuilt", 30)
    SERVICE_UNAVAILABLE = ErrorKind(_C.UNAVAILABLE, 503, "The service is not available right now", 2)
    TOO_MANY_REQUESTS = ErrorKind(_C.RESOURCE_EXHAUSTED, 429, "Too many requests", 5)
    # Usually a store that hangs or is slow: answered as one that is away.
    TIMEOUT = ErrorKind(_C.DEADLINE_EXCEEDED, 503, "The request took too long", 2)
    CHUNK_TOO_SLOW = ErrorKind(_C.DEADLINE_EXCEEDED, 408, "The chunk took too long to come: send smaller ones")
    COMMAND_REFUSED = ErrorKind(_C.INVALID_ARGUMENT, 400, "The ffmpeg command is not allowed")
    INPUT_REFUSED = ErrorKind(_C.INVALID_ARGUMENT, 400, "This input address is not allowed")
    ISOLATION_UNAVAILABLE = ErrorKind(_C.UNAVAILABLE, 503, "isolation-unavailable", 30)
