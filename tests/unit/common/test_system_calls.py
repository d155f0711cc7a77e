"""What our own processes alone may ask of each other is refused to every user, before anything is looked at."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from reelway.v1 import catalog_pb2, library_pb2, transcript_pb2, upload_pb2

from services.catalog.library_servicer import LibraryServicer
from services.catalog.servicer import CatalogServicer
from services.catalog.transcript_servicer import TranscriptServicer
from services.common.caller import SYSTEM_USER, Caller, set_caller
from services.common.error_catalog import ErrorReason
from services.upload.servicer import UploadServicer
from tests.support.journal_client import refusal


class Reached(Exception):
    """The call was let in."""


class Behind:
    """Whatever a servicer works with."""

    def __getattr__(self, name: str) -> Any:
        raise Reached(name)


BEHIND: Any = Behind()
CATALOG = CatalogServicer(BEHIND, BEHIND)
LIBRARY = LibraryServicer(BEHIND, BEHIND, BEHIND, BEHIND)
TRANSCRIPTS = TranscriptServicer(BEHIND)
UPLOAD = UploadServicer(BEHIND, BEHIND, BEHIND, BEHIND, BEHIND)
CALLS: list[tuple[Callable[[Any, Any], Awaitable[object]], object]] = [
    (CATALOG.SealVideo, catalog_pb2.SealVideoRequest()),
    (CATALOG.AttachObject, catalog_pb2.AttachObjectRequest()),
    (CATALOG.LookUpVideo, catalog_pb2.LookUpVideoRequest()),
    (LIBRARY.NoteArrival, library_pb2.NoteArrivalRequest()),
    (LIBRARY.FinishProcessing, library_pb2.FinishProcessingRequest()),
    (TRANSCRIPTS.StartTranscript, transcript_pb2.StartTranscriptRequest()),
    (TRANSCRIPTS.FinishTranscript, transcript_pb2.FinishTranscriptRequest()),
    (UPLOAD.LocateExtents, upload_pb2.LocateExtentsRequest()),
]


@pytest.mark.parametrize(("call", "request_message"), CALLS, ids=[call.__name__ for call, _ in CALLS])
async def test_a_user_is_refused_and_the_system_is_not(
    call: Callable[[Any, Any], Awaitable[object]], request_message: object
) -> None:
    for user in ("", "anna", SYSTEM_USER.upper(), SYSTEM_USER + " "):
        set_caller(Caller(user))
        assert await refusal(call(request_message, None)) is ErrorReason.UNAUTHENTICATED
    set_caller(Caller(SYSTEM_USER))
    with pytest.raises(Reached):
        await call(request_message, None)
