"""The published document: valid, and saying what the routes do."""

from __future__ import annotations

import copy
import json
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, Field

from gateway import openapi
from gateway.api_docs import DESCRIPTION
from gateway.broken_off import WRITE_TIMEOUT_S
from gateway.byte_range import MAX_RANGES
from gateway.http_server import _LONGEST_HEAD
from gateway.operations.playback import JOIN_SECONDS
from gateway.range_document import RANGE_REQUEST_HEADERS, range_answers
from gateway.request_body import IDLE_TIMEOUT_S, SLOWEST_RATE
from gateway.routes import DIALECTS
from gateway.routing import COMMON_ANSWERS, Answer, Operation, Routes, StreamedBody
from gateway.validation import BODIES
from services.common.settings import JoinSettings, SizeSettings
from services.upload.settings import UploadSettings

Json = dict[str, Any]


class Kind(Enum):
    SHORT = "short"
    LONG = "long"


class VideoPath(BaseModel):
    video_id: UUID = Field(description="Which video.")


class Filters(BaseModel):
    kind: Kind | None = None
    limit: int = 30


class Offsets(BaseModel):
    upload_offset: int


class Video(BaseModel):
    title: str
    kind: Kind = Kind.SHORT
    parts: list[Video] = []


routes = Routes("one", answers={401: Answer("Who are you?")})


@routes.get("/videos", summary="List", answers={200: Answer("All", list[Video])})
async def list_videos(_: web.Request, query: Filters, headers: Offsets) -> web.Response:
    return web.Response()


@routes.put("/videos/{video_id:[0-9a-f-]{36}}", summary="Change", answers={204: Answer("Done")})
async def change(_: web.Request, path: VideoPath, json: Video) -> web.Response:
    """Changes a video."""
    return web.Response()


@routes.get(
    "/videos/{video_id}/stream",
    summary="Stream",
    answers=range_answers(["video/mp4", "video/webm"]),
    request_headers=RANGE_REQUEST_HEADERS,
    head=True,
)
async def stream(_: web.Request) -> web.Response:
    return web.Response()


@routes.post(
    "/videos",
    summary="Upload",
    takes=StreamedBody("A file", ("multipart/form-data",), ("video",), {"title": "Its title."}),
    answers={201: Answer("Stored", Video, headers={"Location": "Where."})},
)
async def upload(_: web.Request) -> web.Response:
    return web.Response()


@routes.post("/append", summary="Append", takes=StreamedBody("Bytes"), answers={200: Answer("Appended")})
async def append(_: web.Request) -> web.Response:
    return web.Response()


@routes.post("/any", summary="Any body", answers={200: Answer("Fine")})
async def any_body(_: web.Request, body: Video) -> web.Response:
    return web.Response()


@routes.get("/hidden", summary="Not for everyone", answers={200: Answer("Fine")}, published=False)
async def hidden(_: web.Request) -> web.Response:
    return web.Response()


@pytest.fixture
def document() -> Json:
    return openapi.build("Test", "1.0", "A test.", routes)


def errors(document: Json) -> list[str]:
    return [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]


def test_it_is_valid(document: Json) -> None:
    assert errors(document) == []
    assert json.loads(json.dumps(document)) == document
    broken = copy.deepcopy(document)
    del broken["paths"]["/videos"]["get"]["responses"]["200"]["description"]
    assert errors(broken), "the validator looks at responses"


def test_paths(document: Json) -> None:
    assert {path: list(operations) for path, operations in document["paths"].items()} == {
        "/videos": ["get", "post"],
        "/videos/{video_id}": ["put"],
        "/videos/{video_id}/stream": ["get", "head"],
        "/append": ["post"],
        "/any": ["post"],
    }


def test_parameters(document: Json) -> None:
    listing = document["paths"]["/videos"]["get"]
    assert [(p["name"], p["in"], p["required"]) for p in listing["parameters"]] == [
        ("kind", "query", False),
        ("limit", "query", False),
        ("upload-offset", "header", True),
    ]
    assert "description" not in listing
    assert document["paths"]["/videos/{video_id}"]["put"]["description"] == "Changes a video."
    change_path = document["paths"]["/videos/{video_id}"]["put"]["parameters"][0]
    assert (change_path["schema"]["format"], change_path["description"]) == ("uuid", "Which video.")
    stream_parameters = document["paths"]["/videos/{video_id}/stream"]["get"]["parameters"]
    assert [p["name"] for p in stream_parameters] == ["video_id", *RANGE_REQUEST_HEADERS]


def test_bodies(document: Json) -> None:
    paths = document["paths"]
    change_content = paths["/videos/{video_id}"]["put"]["requestBody"]["content"]
    # What may be left out of a request is always there in an answer, so the two differ.
    assert change_content == {"application/json": {"schema": {"$ref": "#/components/schemas/Video-Input"}}}
    form = paths["/videos"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert (list(form["properties"]), form["required"]) == (["title", "video"], ["title", "video"])
    raw = paths["/append"]["post"]["requestBody"]["content"]
    assert {media_type: each["schema"]["format"] for media_type, each in raw.items()} == {
        "application/octet-stream": "binary"
    }
    # Of several types with one schema openapi-python-client makes a module that cannot be imported.
    any_body = paths["/any"]["post"]["requestBody"]
    assert list(any_body["content"]) == ["application/json"]
    assert "form" in any_body["description"]
    stored = paths["/videos"]["post"]["responses"]["201"]["headers"]
    assert stored["Location"] == {"description": "Where.", "schema": {"type": "string"}}


def test_statuses(document: Json) -> None:
    paths = document["paths"]
    assert list(paths["/videos"]["get"]["responses"]) == ["200", "401", "422"]
    assert list(paths["/any"]["post"]["responses"]) == ["200", "401", "408", "413", "422", "501"]
    # Without a model nothing is refused for its shape.
    assert list(paths["/videos/{video_id}/stream"]["get"]["responses"]) == ["200", "206", "304", "401", "412", "416"]
    head = paths["/videos/{video_id}/stream"]["head"]["responses"]
    assert list(head) == ["200", "304", "401", "412"]
    assert not any("content" in response for response in head.values())


def test_a_dialect_with_words_of_its_own_has_no_others() -> None:
    begin = openapi.build("Reelway", "1", "", _operations())["paths"]["/api/record/videos"]["post"]["responses"]
    assert "400" in begin
    assert "422" not in begin


def test_ranges(document: Json) -> None:
    responses = document["paths"]["/videos/{video_id}/stream"]["get"]["responses"]
    assert list(responses["206"]["content"]) == ["video/mp4", "video/webm", "multipart/byteranges"]
    assert {"X-Request-Id", "ETag", "Accept-Ranges", "Content-Range"} <= responses["206"]["headers"].keys()
    assert "Content-Range" in responses["416"]["headers"]
    assert list(responses["416"]["content"]) == ["application/json"]


def test_components_are_those_in_use(document: Json) -> None:
    names = set(document["components"]["schemas"])
    assert {"Kind", "HTTPValidationError", "ValidationError", "ErrorBody"} <= names
    assert not {"Filters", "Offsets", "VideoPath"} & names, "parameters are spelled out where they are"


def _operations() -> list[Operation]:
    return [operation for dialect in DIALECTS for operation in dialect if operation.published]


def test_the_gateways_own_document_is_valid() -> None:
    document = openapi.build("Reelway", "1", "", _operations())
    assert errors(document) == []
    ids = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(ids) == len(set(ids))


def test_whoever_asks_for_isolation_may_hear_that_nobody_knows() -> None:
    """The service says what it lacks; the gateway, where there is none, can only say that."""
    answers = openapi.build("Reelway", "1", "", _operations())["paths"]["/health/isolation"]["get"]["responses"]
    shapes = answers["503"]["content"]["application/json"]["schema"]["anyOf"]
    assert [shape["$ref"].rpartition("/")[2] for shape in shapes] == ["IsolationBody", "ErrorBody"]


def test_any_integer_may_be_asked_for_as_a_number() -> None:
    """What is no video's is a 404; and pydantic's own words for a limit are none of JSON Schema."""
    for path in ("/get_video/{video_id}", "/api/record/videos/{video_id}"):
        [video_id, *_] = openapi.build("Reelway", "1", "", _operations())["paths"][path]["get"]["parameters"]
        assert video_id["schema"] == {"title": "Video Id", "type": "integer"}


def test_a_generated_client_has_every_model() -> None:
    """Generators name a class for the title of a schema, and leave out the second of a name."""
    schemas = openapi.build("Reelway", "1", "", _operations())["components"]["schemas"]
    assert not [name for name in schemas if "__" in name]
    titles = [schema["title"] for schema in schemas.values()]
    assert len(titles) == len(set(titles))
    assert not [name for name, schema in schemas.items() if "\n" in schema["description"]], "sections of a docstring"


def test_the_sharing_api_has_the_shapes_of_its_document() -> None:
    """Clients generated from either are the same: in the names of the shapes, and a field is left out, never null."""
    schemas = openapi.build("Reelway", "1", "", _operations())["components"]["schemas"]
    assert {
        "FileUploadSignedInstructions",
        "HTTPValidationError",
        "UnprocessedVideo",
        "UserVideosList",
        "ValidationError",
        "Video",
        "VideoUploadConfigRecord",
        "VideosPage",
        "WatchVideoRecord",
    } <= schemas.keys()
    video = schemas["Video"]["properties"]
    assert {name: field["type"] for name, field in video.items()} == {
        **dict.fromkeys(("hash_id", "user_id", "file_name", "upload_time", "title", "description"), "string"),
        **dict.fromkeys(("size_in_bytes", "duration_seconds"), "integer"),
        **dict.fromkeys(("video_type", "thumbnail_url", "listing_time"), "string"),
        "is_private": "boolean",
    }
    assert video["title"]["maxLength"] == 255
    others = [schemas[name]["properties"] for name in ("UnprocessedVideo", "VideosPage", "UserVideosList")]
    assert all("anyOf" not in field and "default" not in field for each in [video, *others] for field in each.values())


def test_an_integrator_is_told_what_the_contracts_leave_open() -> None:
    paths = openapi.build("Reelway", "1", "", _operations())["paths"]
    appends = paths["/append_video/{video_id}"]["post"], paths["/api/record/videos/update_video_chunck"]["patch"]
    sizes, joins, chunks = SizeSettings(), JoinSettings(), UploadSettings.model_fields["append_max_chunks"].default
    chunk, video, joined = (n // 2**30 for n in (sizes.append_max_bytes, sizes.upload_max_bytes, joins.join_max_bytes))
    limits = f"{chunk} GiB, a video {video} GiB and {chunks:,} chunks, or {joined} GiB and {joins.join_max_clips} clips"
    for append in appends:
        assert "`ftyp`" in append["description"], "how a clip is told from a slice"
        assert limits in append["responses"]["413"]["description"]
    assert all(words in DESCRIPTION for words in ("`/record/videos`", "`Retry-After`", "`Idempotency-Key`"))


def test_a_generated_client_knows_what_is_always_there() -> None:
    """A default is for who makes an answer: whoever reads one finds the field, be it null."""
    schemas = openapi.build("Reelway", "1", "", _operations())["components"]["schemas"]
    for model in ("TaskStatus", "TaskPage", "Recorded", "Transcribed", "Refused", "Status"):
        assert schemas[model]["required"] == list(schemas[model]["properties"]), model
    assert schemas["UserVideosList"]["required"] == ["unprocessed_videos", "videos"]
    assert "required" not in schemas["Video"]


def test_a_generated_client_knows_every_state() -> None:
    schemas = openapi.build("Reelway", "1", "", _operations())["components"]["schemas"]
    states = ["pending", "running", "completed", "failed"]
    fields = [("TaskBody", "status"), ("TaskStatus", "status"), ("Transcribed", "status")]
    for model, field in [*fields, ("Recorded", "transcription_status")]:
        assert schemas[model]["properties"][field]["enum"] == states
    assert schemas["FfmpegHealthBody"]["properties"]["ffmpeg_installed"]["enum"] == ["yes", "no"]


def test_a_generated_client_has_every_body() -> None:
    """Generators leave out a body that has no schema, and give back nothing of such an answer."""
    paths = openapi.build("Reelway", "1", "", _operations())["paths"]
    operations = [each for path in paths.values() for each in path.values()]
    bodies = [each["requestBody"] for each in operations if "requestBody" in each]
    bodies += [answer for each in operations for answer in each["responses"].values() if "content" in answer]
    assert all(each["schema"] for body in bodies for each in body["content"].values())
    chunk = paths["/api/record/videos/update_video_chunck"]["patch"]["requestBody"]["content"]
    # Of several types openapi-generator's clients take JSON, into which they put no file.
    assert list(chunk) == ["multipart/form-data"]
    assert chunk["multipart/form-data"]["schema"]["properties"]["video_chunck"]["format"] == "binary"


@pytest.mark.parametrize("operation", _operations(), ids=lambda o: f"{o.method} {o.path}")
def test_every_operation_is_described(operation: Operation) -> None:
    assert operation.summary
    # Generators name a module and a class for it, which cannot begin with a digit.
    assert operation.tag[0].isalpha()
    assert any(status < 400 for status in operation.answers)
    # A bad token is refused everywhere, and so is what is hardly HTTP or too long; an answer may always fail.
    assert {400, 401, 414, 417, 431, 500, 503} <= set(operation.answers)
    if operation.takes or not operation.models.keys().isdisjoint(BODIES):
        assert {408, 413, 501} <= set(operation.answers)
    assert all(answer.description for answer in operation.answers.values())
    query = operation.models["query"].model_fields if "query" in operation.models else {}
    assert [name for name, field in query.items() if not field.description] == []


@pytest.mark.parametrize("operation", _operations(), ids=lambda o: f"{o.method} {o.path}")
def test_headers_that_a_client_acts_on_are_named(operation: Operation) -> None:
    expected = {307: "Location", 401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
    for status in expected.keys() & operation.answers.keys():
        assert expected[status] in operation.answers[status].headers, status
    if "Upload-Offset" in operation.request_headers:
        assert {"Upload-Offset", "ETag"} <= set(operation.answers[200].headers)
        assert "Upload-Offset" in operation.answers[409].headers


def test_every_answer_says_who_may_keep_it(document: Json) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            assert all("Cache-Control" in answer["headers"] for answer in operation["responses"].values())


def test_whoever_asks_for_anything_may_be_told_to_come_back() -> None:
    """There may be no room for a viewer's windows, nor for a call."""
    assert all({429, 503} <= set(operation.answers) for operation in _operations())


def test_how_much_a_request_may_say_ahead_of_its_body_is_told() -> None:
    assert f"{_LONGEST_HEAD // 1024} KiB" in COMMON_ANSWERS[431].description


def test_the_patience_that_a_client_meets_is_told() -> None:
    [upload] = [each for each in _operations() if (each.method, each.path) == ("POST", "/videos")]
    assert f"{IDLE_TIMEOUT_S:g} s" in upload.answers[408].description
    assert f"{SLOWEST_RATE} bytes" in upload.answers[408].description
    assert f"{WRITE_TIMEOUT_S:g} s" in DESCRIPTION
    [get] = [each for each in _operations() if (each.method, each.path) == ("GET", "/get_video/{video_id}")]
    assert f"{JOIN_SECONDS:g} s" in get.answers[503].description
    assert f"{MAX_RANGES}" in RANGE_REQUEST_HEADERS["Range"]


@pytest.mark.parametrize(
    "path",
    [
        "/videos/{video_id}/stream",
        "/videos/{video_id}/download",
        "/get_video/{video_id}",
        "/api/record/videos/{video_id}/stream_video",
    ],
)
def test_a_videos_answers_are_the_same_in_every_dialect(path: str) -> None:
    answers, of_head = (each.answers for each in _operations() if each.path == path)
    assert {206, 307, 404, 409, 416} <= set(answers)
    # Range is defined for GET alone (RFC 9110, 14.2), and a presigned URL is for one method.
    assert set(answers) - set(of_head) == {206, 307, 416}
    # A video that grows may begin with no container that is known.
    assert "application/octet-stream" in answers[200].media_types
